"""Templates: what is put in, what is left alone, what is refused."""

from __future__ import annotations

import pytest

from albor_pipeline.manifest.scope import Scope
from albor_pipeline.manifest.template import is_whole, resolve
from albor_pipeline.model.manifest import Machine

BOX = Machine("box", "10.0.0.1", "box.local", user="ann")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{params.a}}-{{ params.a }}", "1-1"),
        ("{{params.a.b}}", "dotted"),
        ("{{machine.box.addr}} {{machine.self.user}}", "10.0.0.1 ann"),
        ("${{{{ github.sha }}", "${{ github.sha }}"),
        ("{{{{params.a}}", "{{params.a}}"),
        ("{{params.braces}}", "{{params.a}}"),
        ("{single} }} ", "{single} }} "),
    ],
)
def test_templates_are_resolved_once(text: str, result: str) -> None:
    scope = Scope({"a": "1", "a.b": "dotted", "braces": "{{params.a}}"}, {"box": BOX}, BOX)
    assert resolve(text, scope) == (result, [])


@pytest.mark.parametrize(
    ("text", "code", "label"),
    [
        ("{{params.sed}}", "unknown-param", "did you mean `seed`?"),
        ("{{machine.bix.addr}}", "unknown-machine", "did you mean `box`?"),
        ("{{machine.box.adr}}", "template", "did you mean `addr`?"),
        ("{{machine.box}}", "template", ""),
        ("{{param.seed}}", "template", "did you mean `params`?"),
        ("{{nonsense(a)}}", "template", ""),
        ("{{params.seed", "template", ""),
        ("{{machine.self.addr}}", "template", ""),
    ],
)
def test_a_template_that_names_nothing_stays_and_is_reported(text: str, code: str, label: str) -> None:
    result, (fault,) = resolve(f"{{{{params.seed}}}} {text}", Scope({"seed": "1"}, {"box": BOX}))
    assert result == f"1 {text}"
    assert (fault.code, fault.label, fault.number) == (code, label, 1)


def test_only_a_template_alone_may_be_a_number() -> None:
    assert is_whole(" {{params.a}} ")
    assert not is_whole("{{params.a}}{{params.b}}")
    assert not is_whole("x{{params.a}}")
    assert not is_whole("{{{{")
