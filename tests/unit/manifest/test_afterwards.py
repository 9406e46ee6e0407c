"""`checks` and `moved` as declared."""

from __future__ import annotations

import pytest
from support_manifest import Folder

BODY = "machines: {box: {addr: 10.0.0.1}}\nresources:\n  t: {type: task, command: x}\n  c: {type: task, command: x, count: 2}\n"


def test_a_check_takes_templates_of_its_machine(folder: Folder) -> None:
    folder.manifest(
        BODY + "params: {p: 80}\nchecks:\n  up: {machine: box, command: 'ask {{machine.self.addr}}:{{params.p}}', expect_exit: 1}\n"
    )
    manifest = folder.load()
    (check,) = manifest.checks
    assert (check.name, check.machine, check.command, check.expect_exit) == ("up", "box", "ask 10.0.0.1:80", 1)
    assert "box" in manifest.machines


def test_a_move_of_a_group_is_one_of_each_member(folder: Folder) -> None:
    folder.manifest(BODY + "moved: [{from: s, to: t}, {from: old, to: box}, {from: d, to: c}]\n")
    assert [(item.before, item.to, item.what) for item in folder.load().moved] == [
        ("s", "t", "resource"), ("old", "box", "machine"), ("d-0", "c-0", "resource"), ("d-1", "c-1", "resource"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("checks: {a: {}}", "check `a` needs `command`", "7:10"),
        ("checks: {a: {command: x, machine: bix}}", "check `a` is on machine `bix`, which is not declared", "7:35"),
        ("checks: {a: {command: x, expect: 1}}", "check `a` has no key `expect`", "7:26"),
        ("checks: {a: {command: '{{params.x}}'}}", "there is no param `x`", "7:24"),
        ("moved: {from: a, to: t}", "`moved` must be a list, not a mapping", "7:8"),
        ("moved: [{to: t}]", "`moved` 1 needs `from`", "7:9"),
        ("moved: [{from: a, to: tt}]", "`a` moved to `tt`, which is neither a resource nor a machine", "7:23"),
        ("moved: [{from: c, to: t}]", "`c` is still declared", "7:16"),
        ("moved: [{from: a, to: t}, {from: b, to: t}]", "two moves are to `t`", "7:41"),
        ("moved: [{from: a, to: t}, {from: a, to: box}]", "two moves are from `a`", "7:34"),
        ("moved: [{from: a@box, to: t}]", "`a@box` is no name", "7:16"),
        ("moved: [{form: c, to: t}]", "did you mean `from`?", "7:10"),
    ],
)
def test_a_wrong_one_is_explained_at_its_place(folder: Folder, text: str, message: str, place: str) -> None:
    folder.manifest(f"{BODY}{text}\n")
    found = folder.says()
    assert message in found and f"--> m.yaml:{place}\n" in found, found
