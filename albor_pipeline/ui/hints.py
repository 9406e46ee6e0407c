"""Commands that are shown to be typed next: they mean the manifest, the environment and the state that this command meant. Runs none."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

PROGRAM = "albor-pipeline"
SWITCHES, SELECTORS = ("force", "prune"), ("target", "machine", "tag", "group")
OF_A_TASK = ("accept", "attach", "cancel", "logs", "why")
SHOWN = re.compile(rf"{PROGRAM} (?P<words>status|audit|plan|state rebuild|state import \S+(?<![`.,;]))")
SHORT = re.compile(r"`(?P<words>(?:apply|cancel) [^`]+)`")


@dataclass(frozen=True)
class Hints:
    """What a command was told of its manifest, environment and state folder; None for what was not given.

    `before` comes before `plan` and `apply`, and `chosen` after them: what they are limited to.
    """

    manifest: str | None = None
    environment: str | None = None
    state_dir: str | None = None
    before: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    @classmethod
    def of(cls, args: object) -> Hints:
        """From the parsed arguments of any verb; those it does not take count as not given."""
        manifest, environment, state_dir = (
            value if isinstance(value, str) else None for value in (getattr(args, name, None) for name in ("manifest", "env", "state_dir"))
        )
        before = ("provision",) if getattr(args, "verb", None) == "provision" else ()
        chosen = [f"--{name}" for name in SWITCHES if getattr(args, name, None) is True]
        for name in SELECTORS:
            chosen += [word for value in getattr(args, name, None) or () for word in (f"--{name}", value)]
        return cls(manifest, environment, state_dir, before, tuple(chosen))

    def at(self, manifest: object) -> Hints:
        """The same, with the manifest named whether it was given or found."""
        return replace(self, manifest=str(manifest))

    def again(self, *words: str) -> str:
        """A whole command: `albor-pipeline VERB WORDS...` on the same manifest, environment and state."""
        return f"{PROGRAM} {self.short(*words)}"

    def likewise(self, verb: str) -> str:
        """`plan` or `apply` of the same selection."""
        return " ".join([PROGRAM, *self.before, self.short(verb), *map(shlex.quote, self.chosen)])

    def short(self, *words: str) -> str:
        """The same without the name of the program."""
        return " ".join([*map(shlex.quote, words), *self._more(words[0])])

    def completed(self, text: str) -> str:
        """A sentence whose commands mean the same manifest, environment and state."""
        return SHOWN.sub(lambda found: self.again(*found["words"].split(" ")), text)

    def reason(self, text: str) -> str:
        """A reason of the plan, likewise; its commands stand in backticks, without the name of the program."""
        return SHORT.sub(lambda found: f"`{self.short(*found['words'].split(' '))}`", text)

    def _more(self, verb: str) -> list[str]:
        more = []
        if self.manifest is not None:
            more += ["-m"] if verb in OF_A_TASK else []
            more.append(shlex.quote(self.manifest))
        if self.environment is not None:
            more += ["--env", shlex.quote(self.environment)]
        if self.state_dir is not None:
            more += ["--state-dir", shlex.quote(self.state_dir)]
        return more


NOTHING_GIVEN = Hints()
