"""What a plan would move, what it never moves, and moves that cannot be meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support_plan import manifest_of, plan_of, step_of

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Tree
from albor_pipeline.model.plan import Action, Move, Plan
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.model.state import Entry, OutputProof, Result
from albor_pipeline.plan.judge import Options

FAR = "machines: { m1: { addr: m1, workdir: /srv }, m2: { addr: m2, workdir: /home } }\n"
MAKE = "  make: { type: task, machine: m1, command: make, outputs: [data] }\n"
USE = "  use: { type: task, machine: m2, command: use, inputs: [make], outputs: [out] }\n"
ROOT, SIZE = "ab" * 32, 1_200_000_000


def made(root: str = ROOT) -> Entry:
    """The row of `make` that is done."""
    fingerprint = Fingerprint({"command": {"": "make"}, "outputs": {"data": "declared"}})
    return Entry(Key("make", "m1"), "task", Result(fingerprint, {"data": OutputProof(root, 3, SIZE)}, "0001", "2026-03-02T14:10:02Z"))


def codes(plan: Plan) -> list[str]:
    return [item.code for item in plan.diagnostics if item.level == "error"]


def test_what_lies_elsewhere_is_moved_with_its_recorded_size_unless_it_is_there(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, MAKE + USE, FAR)
    step = step_of(plan_of(manifest, made()), "use", "m2")
    assert step.action is Action.RUN and step.moves == (Move("data", "m1", "data", ROOT, SIZE),)
    for found, moved in ((ROOT, 0), ("cd" * 32, 1), (None, 1)):
        plan = plan_of(manifest, made(), inputs={("m2", "data"): Tree(found)})
        assert len(step_of(plan, "use", "m2").moves) == moved and codes(plan) == []


def test_of_what_is_not_made_yet_only_the_path_is_known(tmp_path: Path) -> None:
    assert step_of(plan_of(manifest_of(tmp_path, MAKE + USE, FAR)), "use", "m2").moves == (Move("data", "m1", "data"),)


def test_a_task_that_names_no_inputs_and_one_that_does_not_run_move_nothing(tmp_path: Path) -> None:
    after = USE.replace("inputs: [make]", "depends_on: [make]")
    assert step_of(plan_of(manifest_of(tmp_path, MAKE + after, FAR), made()), "use", "m2").moves == ()
    manifest = manifest_of(tmp_path, MAKE + USE, FAR)
    wanted = step_of(plan_of(manifest, made()), "use", "m2").fingerprint
    assert wanted is not None
    done = Entry(Key("use", "m2"), "task", Result(wanted, {"out": OutputProof("ef" * 32, 1, 1)}, "0001", "2026-03-02T14:10:02Z"))
    assert step_of(plan_of(manifest, made(), done), "use", "m2").moves == ()


def shared(manifest: Manifest, source: str) -> Manifest:
    """The manifest with a mount on m2."""
    share = Resource("share", "mount", ("m2",), SimpleNamespace(source=source, path="/home/data", state="mounted"))
    return replace(manifest, resources={**manifest.resources, "share": share})


@pytest.mark.parametrize(("source", "moved"), [("m1:/srv/data", 0), ("m1:/srv/other", 1)])
def test_a_mount_of_the_same_place_is_not_moved_to(tmp_path: Path, source: str, moved: int) -> None:
    from albor_pipeline.model.observed import Observed
    from albor_pipeline.plan.graph import build
    from albor_pipeline.plan.inputs import Inputs
    from albor_pipeline.plan.moves import needed

    manifest = shared(manifest_of(tmp_path, MAKE + USE, FAR), source)
    wanted = Fingerprint({"inputs": {"data": ROOT}})
    inputs = Inputs(manifest, build(manifest_of(tmp_path, MAKE + USE, FAR)))
    assert len(needed(Key("use", "m2"), wanted, inputs, Observed())) == moved


def test_without_moving_it_is_refused_by_name_unless_it_is_there(tmp_path: Path) -> None:
    manifest, stay = manifest_of(tmp_path, MAKE + USE, FAR), Options(no_move=True)
    plan = plan_of(manifest, made(), options=stay)
    (item,) = [item for item in plan.diagnostics if item.level == "error"]
    assert item.code == "not-moved" and item.message == "`use` on m2 reads `data`, which is on m1; with --no-move it stays there"
    assert item.span is not None and "inputs" in item.span.source.text.splitlines()[item.span.line - 1]
    assert codes(plan_of(manifest, made(), options=stay, inputs={("m2", "data"): Tree(ROOT)})) == []
    assert codes(plan_of(manifest, options=stay)) == ["not-moved"]


@pytest.mark.parametrize(
    ("resources", "code", "words"),
    [
        (
            MAKE.replace("m1", "[m1, m2]") + USE.replace("[make]", "[make@m1]"), "moved-onto",
            "`use` on m2 reads `data`, which `make` makes on m1, and `make` makes the same path on m2",
        ),
        (
            MAKE + USE + "  mine: { type: task, machine: m2, command: x, outputs: [data/sub] }\n", "moved-onto",
            "`use` on m2 reads `data`, which `make` makes on m1, and `mine` makes the same path on m2",
        ),
        (
            MAKE.replace("m1", "[m1, m3]") + USE, "moved-twice",
            "`use` on m2 reads `data` of make@m1 and of make@m3, and both would be moved to one path",
        ),
        (
            MAKE.replace("m1", "[m1, m3]") + USE.replace("[make]", "[make@m1]")
            + USE.replace("use:", "too:").replace("[make]", "[make@m3]").replace("[out]", "[out2]"), "moved-twice",
            "`use` on m2 reads `data`, which `make` makes on m1, and another task there reads the one of make@m3",
        ),
    ],
)  # fmt: skip
def test_what_would_be_moved_onto_something_else_is_refused(tmp_path: Path, resources: str, code: str, words: str) -> None:
    machines = FAR.replace("m2: {", "m3: { addr: m3 }, m2: {")
    plan = plan_of(manifest_of(tmp_path, resources, machines))
    assert codes(plan) == [code] and words in [item.message for item in plan.diagnostics], plan.diagnostics
