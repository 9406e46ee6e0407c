"""`import TYPE NAME` of every type, by what real tools were recorded to answer: it is taken over as it is, and no machine is changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from rules.project import ROOT

from albor_pipeline.transport.client import AgentClient
from cli.builder import Project

AS_DECLARED = (
    "package/apt_all_there", "package/apt_latest_is_the_newest", "package/uv_there", "package/pip_other_spelling",
    "package/cargo_with_its_features", "user/as_declared", "user/alpine_account", "service/running", "service/static_runs",
    "service/failed_is_stopped", "mount/as_declared", "mount/disk_by_uuid", "mount/path_with_a_space", "cron/as_declared",
    "network/ufw_allows", "network/nft_kept", "docker/as_wanted", "docker/podman", "gpu/as_wanted", "gpu/rocm_of_the_kernel",
)  # fmt: skip
OTHERWISE = (
    "package/apt_another_version_is_installed", "user/home_is_gone", "service/masked", "mount/flags_lost",
    "cron/there_twice", "network/ufw_rule_of_others", "docker/image_was_pulled_again", "gpu/another_driver",
)  # fmt: skip
NOT_THERE = (
    "package/cargo_nothing_installed", "service/no_such_unit", "user/new", "cron/no_crontab", "network/no_firewall", "docker/not_there",
    "gpu/nothing_installed",
)  # fmt: skip


class Recorded:
    """A project whose machine answers probes as one of tests/resources was recorded to; `verbs` are those that it was asked."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.case = yaml.safe_load((ROOT / f"tests/resources/{name}.yaml").read_text())
        self.kind = Path(name).parent.name
        self.verbs: list[str] = []
        self.project = project
        for path, text in self.case.get("files", {}).items():
            project.file(path, text)
        fields = json.dumps({"type": self.kind, **self.case["fields"]}, ensure_ascii=False)
        project.manifest(f"it: {fields}")
        queue = AgentClient.queue

        def recorded(client: AgentClient, verb: str, *, data: bytes | None = None, **args: Any) -> int:
            self.verbs.append(verb)
            if verb == "probe":
                assert len(args["items"]) == len(self.case["probe"])
                args["items"] = [answering(result) for result in self.case["probe"]]
            return queue(client, verb, data=data, **args)

        monkeypatch.setattr(AgentClient, "queue", recorded)


def answering(result: Mapping[str, Any]) -> dict[str, Any]:
    """The probe item that is answered with this."""
    out, err = (shlex.quote(str(result.get(name, ""))) for name in ("stdout", "stderr"))
    return {"op": "sh", "script": f"printf %s {out}; printf %s {err} >&2; exit {result['exit']}", "timeout_s": 10.0}


@pytest.mark.parametrize("name", AS_DECLARED)
def test_what_is_as_declared_is_recorded_and_left_alone_from_then_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine = Recorded(project, monkeypatch, name)
    project.says("import", machine.kind, "it", out="""
        it@localhost: recorded as it is
        No machine was changed. To see what is left to do: albor-pipeline plan manifests/albor.yaml
    """)
    for verb in ("plan", "apply"):
        said = project.run(verb)
        assert (said.exit, "1 unchanged" in said.out) == (0, True), said
    assert "probe" in machine.verbs and "converge" not in machine.verbs


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_otherwise_is_recorded_as_it_is_and_the_plan_says_what_it_would_change(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine = Recorded(project, monkeypatch, name)
    said = project.run("import", machine.kind, "it")
    assert said.out.startswith(f"it@localhost: recorded as it is; declared otherwise: {', '.join(machine.case['differs'])}\n"), said
    (step,) = json.loads(project.run("plan", "--json").out)["steps"]
    assert step["action"] == "update" and any(word in step["reason"]["text"] for word in machine.case["differs"]), step
    assert "converge" not in machine.verbs


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_is_not_there_is_not_imported(project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine = Recorded(project, monkeypatch, name)
    said = project.run("import", machine.kind, "it")
    assert said.exit == 1 and "`it@localhost` is not imported: there is none on localhost" in said.err, said
    assert "1 to create" in project.run("plan").out and "converge" not in machine.verbs
