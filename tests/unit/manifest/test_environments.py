"""`--env NAME`: params and addresses really change, and every environment is checked whichever is used."""

from __future__ import annotations

import pytest
from support_manifest import Folder

BASE = """
params: {size: 1, name: x}
machines: {box: {addr: 10.0.0.1, user: ann}}
environments:
  prod: {description: the real one, params: {size: 64}, machines: {box: {addr: 10.9.9.9}}}
  test: {}
resources:
  t: {type: task, machine: box, command: "run {{params.size}} {{params.name}} at {{machine.box.addr}}"}
"""


@pytest.mark.parametrize(
    ("environment", "command", "addr"),
    [
        (None, "run 1 x at 10.0.0.1", "10.0.0.1"),
        ("prod", "run 64 x at 10.9.9.9", "10.9.9.9"),
        ("test", "run 1 x at 10.0.0.1", "10.0.0.1"),
    ],
)
def test_params_and_addresses_are_those_of_the_environment(
    folder: Folder, environment: str | None, command: str, addr: str
) -> None:
    manifest = folder.manifest(BASE).load(environment=environment)
    assert manifest.resources["t"].fields.command == command
    assert (manifest.machines["box"].addr, manifest.machines["box"].user) == (addr, "ann")


def test_the_address_of_an_environment_may_be_a_template(folder: Folder) -> None:
    folder.manifest(
        "params: {ip: 10.0.0.1}\nmachines: {box: {addr: h}}\nenvironments:\n"
        "  prod: {params: {ip: 10.0.0.2}, machines: {box: {addr: '{{ params.ip }}'}}}\n"
        "resources:\n  t: {type: task, machine: box, command: x}\n"
    )
    assert (folder.load().machines["box"].addr, folder.load(environment="prod").machines["box"].addr) == ("h", "10.0.0.2")


def test_a_wrong_value_of_an_environment_is_shown_there(folder: Folder) -> None:
    text = "params: {limit: 5}\nenvironments:\n  prod: {params: {limit: soon}}\n"
    folder.manifest(text + 'resources:\n  t: {type: task, command: x, timeout: "{{params.limit}}"}\n')
    assert folder.load().resources["t"].fields.timeout_s == 5
    assert "= `params.limit` is `soon`, set at m.yaml:5:26" in folder.says(environment="prod")


@pytest.mark.parametrize(
    ("section", "message", "place"),
    [
        (
            "{prod: {machines: {bax: {addr: h}}}}",
            "environment `prod` moves the machine `bax`, which is not declared",
            "4:34",
        ),
        ("{prod: {machines: {box: {addr: a b}}}}", "must be a host name or an address without spaces", "4:46"),
        ("{prod: {machines: {box: {adr: h}}}}", "has no key `adr`", "4:40"),
        ("{prod: {parms: {}}}", "environment `prod` has no key `parms`", "4:23"),
        ("{prod: {promotion: {}}}", "`promotion` is not supported yet", "4:23"),
        ("{../x: {}}", "`../x` cannot name an environment", "4:16"),
        ("[prod]", "`environments` must be a mapping, not a list", "4:15"),
    ],
)
def test_a_wrong_environment_is_an_error_though_it_is_not_used(
    folder: Folder, section: str, message: str, place: str
) -> None:
    folder.manifest(f"machines: {{box: {{addr: h}}}}\nenvironments: {section}\n")
    found = folder.says()
    assert message in found and f"--> m.yaml:{place}\n" in found, found


def test_a_param_that_only_an_environment_has_is_a_warning(folder: Folder) -> None:
    folder.manifest("params: {seed: 1}\nenvironments:\n  prod: {params: {sede: 2}}\n")
    found = folder.warns()
    assert (
        "environment `prod` sets the param `sede`, which only exists there" in found and "did you mean `seed`?" in found
    )


def test_an_unknown_environment_is_named_with_what_there_is(folder: Folder) -> None:
    folder.manifest("environments:\n  prod: {}\n  test: {}\n")
    found = folder.says(environment="prd")
    assert "there is no environment `prd`" in found and "did you mean `prod`?" in found
    assert "= declared environments: prod, test" in found
    folder.manifest("{}\n".replace("{}", "params: {}"))
    assert "= declared environments: none" in folder.says(environment="prod")
