"""A model of the hub by the verbs of the CLI: what is planned, what is written down, and that its token is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakehub import Hub, gguf

from cli.builder import Project


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that asks for a token, which only the manifest's secret knows."""
    with Hub() as made:
        made.token = "hf_only_for_the_hub"
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("FORJAR_SECRET_HUB", made.token)
        made.offer("ann/tiny", "c1", tiny__gguf=gguf("Q8_0"))
        yield made


def test_a_secret_token_fetches_a_model_and_is_written_nowhere(project: Project, hub: Hub) -> None:
    project.manifest("m: {type: model, name: tiny, source: ann/tiny, format: gguf, revision: c1, path: m.gguf, token: '{{secrets.hub}}'}")
    assert "m" in project.run("plan").out
    project.does("apply")
    assert (project.root / "m.gguf").read_bytes() == gguf("Q8_0")
    project.says("apply", out="Nothing to do: 1 unchanged.")
    written = [path for path in project.root.rglob("*") if path.is_file() and hub.token.encode() in path.read_bytes()]
    assert written == []
    (project.root / "m.gguf").unlink()
    said = project.run("drift")
    assert said.exit == 4 and "state: recorded present, found absent" in said.out, said
    project.does("apply").does("destroy", "--yes")
    assert not list(project.root.glob("m.gguf*"))
