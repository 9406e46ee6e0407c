"""One resource on the machine `lambda` of the test bed, as a user declares, applies, disturbs and takes it away."""

from __future__ import annotations

import json
from typing import Any, Self

from testbed.pipeline import Pipeline

NAME = "it"


class One:
    """A project with the resource `it` of one type; `fields` are those of the next manifest."""

    def __init__(self, project: Pipeline, kind: str, **fields: Any) -> None:
        self.project = project
        self.fields: dict[str, Any] = {"type": kind, "machine": "lambda", **fields}

    def now(self, **fields: Any) -> Self:
        """Declare other values; None takes a field out."""
        self.fields = {name: value for name, value in {**self.fields, **fields}.items() if value is not None}
        return self

    def _write(self) -> None:
        given = {key: json.dumps(value, ensure_ascii=False) for key, value in self.fields.items()}
        body = "".join(f"  {key}: {text}\n" for key, text in given.items())
        head = f"machines:\n  lambda: {{addr: lambda, workdir: ~/runs/{self.project.name}}}\n"
        self.project.manifest(f"{NAME}:\n{body}", head)

    def plans(self, *texts: str) -> Self:
        """A plan whose reason has these texts."""
        self._write()
        said = self.project.run("plan")
        assert said.exit == 0 and all(text in said.out for text in texts), said
        return self

    def applies(self) -> Self:
        """Applied, and found as declared afterwards."""
        self._write()
        said = self.project.run("apply", "--yes")
        assert said.exit == 0 and "1 unchanged" not in said.out, said
        return self

    def settled(self) -> Self:
        """Applied once more: nothing to do."""
        said = self.project.run("apply")
        assert (said.out, said.exit) == ("Nothing to do: 1 unchanged.\n", 0), said
        return self

    def fails(self, *texts: str) -> Self:
        """An apply that fails and says these texts."""
        self._write()
        said = self.project.run("apply", "--yes")
        assert said.exit == 3 and all(text in said.err + said.out for text in texts), said
        return self

    def drifts(self, *texts: str) -> Self:
        """`drift` names it with these texts, and apply heals it."""
        said = self.project.run("drift")
        assert said.exit == 4 and all(text in said.out for text in texts), said
        return self.applies()
