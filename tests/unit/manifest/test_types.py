"""Every type of the format: what it needs, which forms its fields take, what its states are, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_report import HEAD, read, report, resource

from albor_pipeline.errors import ManifestError
from albor_pipeline.resources.registry import KINDS
from albor_pipeline.ui.diagnostics import render_all

MINIMAL = {
    "package": {"provider": "apt", "packages": "[jq]"},
    "file": {"path": "/srv/x"},
    "service": {"name": "nginx"},
    "mount": {"source": "nas:/data", "path": "/mnt/data"},
    "user": {"name": "ann"},
    "docker": {"name": "web", "image": "nginx:1.27"},
    "pepita": {"name": "cell"},
    "network": {"port": "443"},
    "cron": {"name": "tidy", "schedule": '"0 3 * * 1-5"', "command": "tidy"},
    "model": {"name": "teacher"},
    "gpu": {"driver_version": "550"},
    "task": {"command": "make"},
    "wasm_bundle": {"path": "/srv/x.wasm"},
    "image": {"path": "/srv/plan.yaml"},
    "build": {"build_machine": "localhost", "command": "make", "source": "out/x", "target": "/usr/bin/x"},
    "github_release": {"repo": "casey/just", "binary": "just"},
    "python_env": {},
}
NOT_ALWAYS = {("docker", "image"), ("cron", "schedule"), ("cron", "command"), ("task", "command")}
REQUIRED = [(kind, field) for kind, fields in MINIMAL.items() for field in fields if (kind, field) not in NOT_ALWAYS]
STATES = {
    "package": "present, absent, latest",
    "file": "file, directory, symlink, absent",
    "service": "running, stopped, enabled, disabled",
    "mount": "mounted, unmounted, absent",
    "user": "present, absent",
    "docker": "running, stopped, absent",
    "pepita": "present, absent",
    "network": "present, absent",
    "cron": "present, absent",
    "model": "present, absent",
    "gpu": "present, absent",
    "task": "present",
    "wasm_bundle": "file, directory, symlink, absent",
    "image": "file, directory, symlink, absent",
    "build": "present",
    "github_release": "present, absent",
}


def block(kind: str, **changed: str) -> str:
    """The minimal block of a type with fields changed or added; `from_` is written `from`."""
    fields = {**MINIMAL[kind], **{name.rstrip("_"): value for name, value in changed.items()}}
    return resource(kind, ", ".join(f"{name}: {value}" for name, value in fields.items()))


def test_every_type_has_its_row_here() -> None:
    assert set(MINIMAL) | {"recipe"} == set(KINDS), "recipe stands in test_recipes.py: it becomes the resources it holds"
    assert len(KINDS) == 18


@pytest.mark.parametrize("kind", MINIMAL)
def test_the_least_that_a_type_needs_is_enough(tmp_path: Path, kind: str) -> None:
    manifest = read(tmp_path, block(kind))
    assert (manifest.resources["it"].kind, manifest.warnings) == (kind, ())


@pytest.mark.parametrize(("kind", "field"), REQUIRED)
def test_a_field_that_is_needed_is_asked_for_by_name(tmp_path: Path, kind: str, field: str) -> None:
    fields = ", ".join(f"{name}: {value}" for name, value in MINIMAL[kind].items() if name != field)
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, resource(kind, fields))
    text = render_all(caught.value.diagnostics)
    assert f"error[missing-key]: {kind} `it` needs `{field}`\n" in text
    assert "m.yaml:4:3\n" in text and f"  = a {kind} takes: " in text
    assert len(caught.value.diagnostics) == 1


@pytest.mark.parametrize("kind", STATES)
def test_a_type_has_its_states_and_the_first_is_the_default(tmp_path: Path, kind: str) -> None:
    states = STATES[kind].split(", ")
    assert read(tmp_path, block(kind)).resources["it"].fields.state == states[0]
    needs = {"symlink": {"target": "/a"}}
    for state in states:
        assert read(tmp_path, block(kind, state=state, **needs.get(state, {}))).resources["it"].fields.state == state
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, block(kind, state="presnt"))
    (problem,) = caught.value.diagnostics
    assert problem.message == f"`state` of {kind} `it` cannot be `presnt`"
    assert problem.notes == (f"allowed: {STATES[kind]}",)


NAME = "a name of at most 32 lower-case letters, digits, `-`, `_` and `.`"
MODE = "four octal digits such as 0644"
WORD = "one word, without spaces"
UNIT = "the name of a unit: letters, digits, `:`, `-`, `_`, `.`, `@` and backslashes"
ABSOLUTE = "an absolute path, from `/` on"
PORT = "a port from 1 to 65535"
DEFAULT = "what becomes of all others is set by a command, such as `ufw default deny incoming`"
PORTS = "ports such as 8080:80 or 127.0.0.1:8080:80/tcp, each from 1 to 65535"
VOLUME = "a volume such as data:/var/lib/data or /srv/data:/data:ro, absolute inside the container"
SOURCE = "an address such as 10.0.0.5, a network such as 10.0.0.0/8, or `any`"
WRONG = [
    ("package", {"packages": "[-y]"}, "packages.0", "the name of a package, without spaces", "-y"),
    ("file", {"mode": "644"}, "mode", MODE, "644"),
    ("file", {"mode": '"0o44"'}, "mode", MODE, '"0o44"'),
    ("file", {"mode": "0988"}, "mode", MODE, "0988"),
    ("file", {"owner": "Root"}, "owner", f"{NAME}, or a number", "Root"),
    ("wasm_bundle", {"mode": "9"}, "mode", MODE, "9"),
    ("service", {"name": "a b"}, "name", UNIT, "a b"),
    ("service", {"enabled": "yes"}, "enabled", "true or false", "yes"),
    ("mount", {"path": "mnt"}, "path", ABSOLUTE, "mnt"),
    ("mount", {"options": '"ro, hard"'}, "options", WORD, '"ro, hard"'),
    ("user", {"groups": "[wheel, Docker]"}, "groups.1", NAME, "Docker"),
    ("user", {"uid": '"1000"'}, "uid", "a whole number, written without quotes", '"1000"'),
    ("user", {"shell": "zsh"}, "shell", ABSOLUTE, "zsh"),
    ("user", {"home": "ann"}, "home", ABSOLUTE, "ann"),
    ("docker", {"ports": "[8080:80, 80:99999]"}, "ports.1", PORTS, "80:99999"),
    ("docker", {"ports": "[http]"}, "ports.0", PORTS, "http"),
    ("docker", {"ports": "[99999999]"}, "ports.0", PORTS, "99999999"),
    ("docker", {"volumes": "[data:var]"}, "volumes.0", VOLUME, "data:var"),
    ("docker", {"environment": "[1=2]"}, "environment.0", "a variable such as NAME=value", "1=2"),
    ("docker", {"restart": "never"}, "restart", "no, always, unless-stopped or on-failure[:TIMES]", "never"),
    ("pepita", {"cpuset": "0-"}, "cpuset", "CPUs such as 0-3 or 0,2,4", "0-"),
    ("pepita", {"memory_limit": "much"}, "memory_limit", "a size such as 512MB, 20GB or 16GiB", "much"),
    ("pepita", {"chroot_dir": "cell"}, "chroot_dir", ABSOLUTE, "cell"),
    ("network", {"port": "65536"}, "port", PORT, "65536"),
    ("network", {"port": '"0"'}, "port", f"{PORT} ({DEFAULT})", '"0"'),
    ("network", {"port": "8000-8010"}, "port", PORT, "8000-8010"),
    ("network", {"from_": "10.0.0.0/33"}, "from", SOURCE, "10.0.0.0/33"),
    ("model", {"checksum": "abc"}, "checksum", "a BLAKE3 digest: 64 hexadecimal digits", "abc"),
    ("gpu", {"devices": "[all]"}, "devices.0", "a whole number", "all"),
    ("github_release", {"repo": "just"}, "repo", "OWNER/NAME", "just"),
    ("github_release", {"binary": "bin/x"}, "binary", "the name of a program, without a folder", "bin/x"),
    ("github_release", {"install_dir": "bin"}, "install_dir", ABSOLUTE, "bin"),
]


@pytest.mark.parametrize(("kind", "changed", "path", "must", "given"), WRONG)
def test_a_value_of_the_wrong_form_is_told_with_the_right_one(
    tmp_path: Path, kind: str, changed: dict[str, str], path: str, must: str, given: str
) -> None:
    says = report(tmp_path, block(kind, **changed))
    assert says == [f"`{path}` of {kind} `it` must be {must}, not `{given}` [{given}]"]


CONTRADICTIONS = [
    ("package", {"provider": "uv", "state": "latest"}, "installed by apt to have `state: latest`"),
    ("package", {"source": "crates/x"}, "installed by cargo to have a `source`"),
    (
        "package",
        {"packages": "[linux-image-6.8]"},
        "given `linux-headers-6.8` beside `linux-image-6.8`: without it no driver module can be built",
    ),
    ("file", {"content": "a", "source": "b"}, "given one of `content`, `source` and `template`"),
    ("image", {"state": "symlink"}, "`state: symlink` with a `target`, or neither"),
    (
        "service",
        {"state": "disabled", "enabled": "true"},
        "either enabled or disabled; `state` and `enabled` contradict one another",
    ),
    ("docker", {"image": "~"}, "given an `image`, or `state: absent`"),
    ("cron", {"command": "~"}, "given a `command`, or `state: absent`"),
    ("cron", {"schedule": "~"}, "given a `schedule`, or `state: absent`"),
]
OF_THE_OTHER_MAKER = [
    ({"rocm_version": "'6'"}, "given without `rocm_version`, or with `gpu_backend: rocm`, which alone has that"),
    (
        {"gpu_backend": "rocm", "compute_mode": "default", "cuda_version": "'12'", "persistence_mode": "false"},
        "given without `cuda_version`, `compute_mode`, `persistence_mode`, or with `gpu_backend: nvidia`, which alone has that",
    ),
]


@pytest.mark.parametrize(("kind", "changed", "must"), CONTRADICTIONS)
def test_fields_that_contradict_one_another_are_told_at_the_name(
    tmp_path: Path, kind: str, changed: dict[str, str], must: str
) -> None:
    assert report(tmp_path, block(kind, **changed)) == [f"{kind} `it` must be {must} [it]"]


@pytest.mark.parametrize(("changed", "must"), OF_THE_OTHER_MAKER)
def test_what_only_the_other_maker_of_cards_has_is_refused(tmp_path: Path, changed: dict[str, str], must: str) -> None:
    assert report(tmp_path, block("gpu", **changed)) == [f"gpu `it` must be {must} [it]"]


@pytest.mark.parametrize(
    ("kind", "changed", "says"),
    [
        ("package", {"provider": "atp"}, "`provider` of package `it` cannot be `atp` [atp] did you mean `apt`?"),
        ("package", {"packages": "[]"}, "`packages` of package `it` must be a list of at least one package [[]]"),
        ("package", {"packages": "jq"}, "`packages` of package `it` must be a list, not `jq` [jq]"),
        ("network", {"protocol": "gre"}, "`protocol` of network `it` cannot be `gre` [gre]"),
        ("network", {"action": "alow"}, "`action` of network `it` cannot be `alow` [alow] did you mean `allow`?"),
        ("gpu", {"compute_mode": "shared"}, "`compute_mode` of gpu `it` cannot be `shared` [shared]"),
        (
            "build",
            {"build_machine": "localhst"},
            "`build_machine` of `it` names machine `localhst`, which is not declared [localhst] did you mean `localhost`?",
        ),
    ],
)
def test_a_value_that_is_none_of_the_known_ones_is_told(
    tmp_path: Path, kind: str, changed: dict[str, str], says: str
) -> None:
    assert report(tmp_path, block(kind, **changed)) == [says]


RIGHT = [
    ("package", {"packages": "['ripgrep[pcre2,simd]', fd-find]", "provider": "cargo", "source": "crates/x"}),
    ("package", {"state": "latest", "version": "1.0"}),
    ("package", {"packages": "[linux-image-6.8, linux-headers-6.8]"}),
    ("file", {"mode": "0644", "owner": "472", "group": "www-data"}),
    ("docker", {"state": "absent", "image": "~"}),
    ("docker", {"ports": "[80, 8080:80, '127.0.0.1:53:53/udp', '[::1]:80:80', 8000-8010:8000-8010]"}),
    ("docker", {"volumes": "[/data, data:/data, '/srv:/data:ro']", "environment": "[A=1, B=, C]", "restart": "on-failure:3"}),
    ("pepita", {"cpuset": "'0,2-3'", "memory_limit": "512MiB", "netns": "true", "overlay_lower": "/a"}),
    ("network", {"port": "'22'", "from_": "any"}),
    ("network", {"from_": "fd00::/8", "action": "deny", "protocol": "udp"}),
    ("cron", {"state": "absent", "schedule": "~", "command": "~"}),
    ("model", {"source": "Qwen/Qwen3-Coder", "checksum": "blake3:" + "0a" * 32, "path": "models/teacher"}),
    ("gpu", {"gpu_backend": "rocm", "rocm_version": "6.0", "devices": "[0, 1]", "driver_version": '""'}),
    ("gpu", {"gpu_backend": "rocm", "persistence_mode": "true", "cuda_version": '""'}),
    ("gpu", {"gpu_backend": "cpu", "rocm_version": "'6'", "cuda_version": "'12'"}),
    ("image", {"name": "app", "version": "1.0", "image": "debian:13", "command": "run"}),
    ("build", {"working_dir": "/src", "completion_check": "test -e x"}),
    ("user", {"uid": "1000", "groups": "[docker, sudo]", "system_user": "true", "ssh_authorized_keys": "[ssh-ed25519 AAAA]"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changed"), RIGHT)
def test_every_form_that_the_format_has_is_read(tmp_path: Path, kind: str, changed: dict[str, str]) -> None:
    assert report(tmp_path, block(kind, **changed)) == []


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "*/15 0 1,15 * 1-5", "0-30/10 23 31 12 7", "0 0 * jan-MAR sun", "@daily", "@reboot", "@hourly",
    ],
)  # fmt: skip
def test_a_schedule_is_read_as_cron_reads_it(tmp_path: Path, schedule: str) -> None:
    assert report(tmp_path, block("cron", schedule=f'"{schedule}"')) == []


KEYWORDS = "@reboot, @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"


@pytest.mark.parametrize(
    ("schedule", "must"),
    [
        ("* * * *", f"five fields (minute hour day month weekday) or one of {KEYWORDS}"),
        ("@dayly", f"five fields (minute hour day month weekday) or one of {KEYWORDS}"),
        ("60 * * * *", "a schedule whose minute is from 0 to 59; `60` is not"),
        ("* 24 * * *", "a schedule whose hour is from 0 to 23; `24` is not"),
        ("* * 0 * *", "a schedule whose day of the month is from 1 to 31; `0` is not"),
        ("* * * 13 *", "a schedule whose month is from 1 to 12; `13` is not"),
        ("* * * * 1,8", "a schedule whose day of the week is from 0 to 7; `8` is not"),
        ("5-1 * * * *", "a schedule whose minute is from 0 to 59; `5-1` is not"),
        ("*/0 * * * *", "a schedule whose minute is from 0 to 59; `*/0` is not"),
        ("5/2 * * * *", "a schedule whose minute is from 0 to 59; `5/2` is not"),
        ("-1 * * * *", "a schedule whose minute is from 0 to 59; `-1` is not"),
        ("sun * * * *", "a schedule whose minute is from 0 to 59; `sun` is not"),
        ("²  * * * *", "a schedule whose minute is from 0 to 59; `²` is not"),
    ],
)
def test_a_schedule_out_of_range_is_told_by_its_field(tmp_path: Path, schedule: str, must: str) -> None:
    (says,) = report(tmp_path, block("cron", schedule=f'"{schedule}"'))
    assert says.startswith(f"`schedule` of cron `it` must be {must}, not `")


@pytest.mark.parametrize(
    ("kind", "key", "suggestion"),
    [
        ("package", "package", "packages"),
        ("service", "nme", "name"),
        ("mount", "fs_type", "fstype"),
        ("user", "ssh_authorised_keys", "ssh_authorized_keys"),
        ("docker", "volume", "volumes"),
        ("pepita", "cpu_set", "cpuset"),
        ("network", "form", "from"),
        ("cron", "schedul", "schedule"),
        ("model", "check_sum", "checksum"),
        ("gpu", "device", "devices"),
        ("wasm_bundle", "pth", "path"),
        ("image", "imge", "image"),
        ("build", "build_machin", "build_machine"),
        ("github_release", "assets_pattern", "asset_pattern"),
        ("task", "task_input", "task_inputs"),
    ],
)
def test_a_mistyped_key_gets_the_closest_one(tmp_path: Path, kind: str, key: str, suggestion: str) -> None:
    says = report(tmp_path, block(kind, **{key: "x"}))
    assert says == [f"{kind} `it` has no key `{key}` [{key}] did you mean `{suggestion}`?"]


def test_the_whole_report_reads_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        f"{HEAD}resources:\n  web:\n    type: docker\n    imge: nginx\n    ports: [80:80, 80:http]\n    state: stoped\n"
    )
    with pytest.raises(ManifestError) as caught:
        read(Path(), text)
    assert (
        render_all(caught.value.diagnostics)
        == """\
error[missing-key]: docker `web` needs `name`
 --> m.yaml:4:3
  |
3 | resources:
4 |   web:
  |   ^^^
  = a docker takes: name, state, image, ports, environment, volumes, restart, command, description, ...

error[unknown-key]: docker `web` has no key `imge`
 --> m.yaml:6:5
  |
5 |     type: docker
6 |     imge: nginx
  |     ^^^^ did you mean `image`?
  = a docker takes: name, state, image, ports, environment, volumes, restart, command, description, ...

error[wrong-value]: `ports.1` of docker `web` must be ports such as 8080:80 or 127.0.0.1:8080:80/tcp, each from 1 to 65535, not `80:http`
 --> m.yaml:7:20
  |
6 |     imge: nginx
7 |     ports: [80:80, 80:http]
  |                    ^^^^^^^

error[wrong-value]: `state` of docker `web` cannot be `stoped`
 --> m.yaml:8:12
  |
7 |     ports: [80:80, 80:http]
8 |     state: stoped
  |            ^^^^^^ did you mean `stopped`?
  = allowed: running, stopped, absent
"""
    )


def test_templates_reach_the_fields_of_every_type(tmp_path: Path) -> None:
    text = f"{HEAD}params: {{port: 80, name: web, mode: 0640}}\nresources:\n"
    text += '  n: {type: network, port: "{{params.port}}"}\n  s: {type: service, name: "{{params.name}}"}\n'
    text += '  w: {type: wasm_bundle, path: x, mode: "{{params.mode}}"}\n'
    text += '  d: {type: docker, name: a, image: "i:{{params.port}}", ports: ["{{params.port}}:80"]}\n'
    found = read(tmp_path, text).resources
    assert (found["n"].fields.port, found["s"].fields.name, found["w"].fields.mode) == (80, "web", "0640")
    assert (found["d"].fields.image, found["d"].fields.ports) == ("i:80", ("80:80",))


def test_the_keys_of_other_types_may_stand_empty_anywhere(tmp_path: Path) -> None:
    """Manifests that a program wrote list every key of the format on every resource."""
    text = block("package", path="null", ports="[]", inputs="{}", system_user="false", restart="~", content='""')
    assert report(tmp_path, text) == []


def test_a_key_of_another_type_is_a_warning_since_it_does_nothing(tmp_path: Path) -> None:
    says = report(tmp_path, block("service", command="nginx -g x", packages="[nginx]"))
    assert says == [
        "`command` has no effect on service `it` [command]",
        "`packages` has no effect on service `it` [packages]",
    ]


def test_a_key_of_another_type_is_an_error_on_a_type_that_forjar_has_not(tmp_path: Path) -> None:
    assert report(tmp_path, block("python_env", command="x")) == ["python_env `it` has no key `command` [command]"]
