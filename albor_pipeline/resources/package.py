"""Package: what a package manager of the machine has installed, at which version. Makes agent operations; runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Brought, Convergent, Instance, Item
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, Text, wrong
from albor_pipeline.resources.formats import filled, matching
from albor_pipeline.resources.package_apt import Apt
from albor_pipeline.resources.package_manager import ABSENT, LATEST, Installed, Manager, Wish
from albor_pipeline.resources.package_user import Cargo, Pip, Uv

IMAGE, HEADERS = "linux-image-", "linux-headers-"
PackageName = Annotated[str, matching(r"(?=.{1,250}$)[^\s-]\S*(?:, *\S+)*", "the name of a package, without spaces")]
VERSION = re.compile(r"[A-Za-z0-9*][A-Za-z0-9.+~:!*-]{0,120}")
MANAGERS: Mapping[str, Manager] = {"apt": Apt(), "uv": Uv(), "pip": Pip(), "cargo": Cargo()}


class Package(Fields):
    """Packages that a package manager has installed; `source` is the folder that cargo builds one from."""

    provider: Annotated[Literal["apt", "cargo", "uv", "pip", "brew"], CONTENT, Field(description="the package manager")]
    packages: Annotated[
        tuple[PackageName, ...],
        filled("a list of at least one package"),
        CONTENT,
        Field(description="their names; a version may follow: NAME=VERSION for apt, NAME==VERSION for uv and pip, NAME@VERSION for cargo"),
    ]
    state: Annotated[
        Literal["present", "absent", "latest"],
        CONTENT,
        Field(description="whether they are there; latest keeps them up to date with the machine's package lists"),
    ] = "present"
    version: Annotated[
        Text | None, CONTENT, Field(description="the version that must be installed, of every package; it may hold `*`")
    ] = None
    source: Annotated[PathText | None, CONTENT, Field(description="the folder of the crate that cargo installs")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> Package:
        if self.state == "latest" and self.provider != "apt":
            raise wrong("installed by apt to have `state: latest`")
        if self.source is not None and self.provider != "cargo":
            raise wrong("installed by cargo to have a `source`")
        if self.version is not None and not VERSION.fullmatch(self.version):
            raise wrong("given a `version` of letters, digits and `.+~:!-`, or with `*` for any of them")
        for name in self.packages:
            headers = HEADERS + name.removeprefix(IMAGE)
            if name.startswith(IMAGE) and headers not in self.packages:
                raise wrong(f"given `{headers}` beside `{name}`: without it no driver module can be built")
            manager = MANAGERS.get(self.provider)
            if manager is not None and not re.fullmatch(manager.pattern, name):
                raise wrong(f"given `packages` that are each {manager.must}; `{name}` is not")
        return self


class PackageKind(Convergent):
    """The kind `package`: one value a package, its version where one is declared, so that what differs is named and nothing else done."""

    many: ClassVar[bool] = True
    name: ClassVar[str] = "package"
    model: ClassVar[type[Fields]] = Package
    exclusive: ClassVar[str] = "apt"

    def probes(self, one: Instance) -> list[Item]:
        """Everything that the manager has installed: the same for all resources of a machine, so asked once."""
        return _manager(one).probes([wish.name for wish in _wishes(one)], one.fields.state == LATEST)

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """Each package as it was wished for, else what it is instead; for `absent` those that are there."""
        wishes, manager = _wishes(one), _manager(one)
        seen = manager.seen([wish.name for wish in wishes], results)
        if seen.error is not None:
            return Observation(False, error=seen.error)
        if one.fields.state == ABSENT:
            there = {name: found.version for name, found in seen.packages.items()}
            return Observation(bool(there), {"state": f"present: {', '.join(there)}" if there else ABSENT})
        values = {wish.name: _text(manager, wish, seen.packages.get(wish.name), _follows(one, wish)) for wish in wishes}
        return Observation(bool(seen.packages), values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """By package: its version, `present` or `latest`; ManifestError for a manager that is not converged."""
        _manager(one)
        if one.fields.state == ABSENT:
            return {"state": ABSENT}
        return {wish.name: LATEST if _follows(one, wish) else wish.value for wish in _wishes(one)}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Only the packages that differ."""
        if one.fields.state == ABSENT:
            return self.remove(one)
        wishes = self._lacking(one, observed)
        return [_manager(one).install(wishes, one.fields.state == LATEST, again=False)] if wishes else []

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """All of them anew; apt fetches its lists first, since what triggers it may be a new package source."""
        if one.fields.state == ABSENT:
            return self.remove(one)
        return [_manager(one).install(_wishes(one), one.fields.state == LATEST, again=True)]

    def remove(self, one: Instance) -> list[Item]:
        """Those of the packages that are there; what was installed for their sake stays."""
        return [_manager(one).remove([wish.name for wish in _wishes(one)])]

    def forecasts(self, one: Instance, observed: Observation) -> list[Item]:
        """Whether the manager is there and knows the packages and versions of those that differ."""
        wishes = self._lacking(one, observed)
        return _manager(one).forecasts(wishes) if wishes else []

    def forecast(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """What it does not know."""
        wishes = self._lacking(one, observed)
        return _manager(one).forecast(wishes, results) if wishes else []

    def weighs(self, one: Instance, observed: Observation) -> list[Item]:
        """What the manager says of the sizes of those that differ."""
        wishes = self._lacking(one, observed)
        return _manager(one).weighs(wishes) if wishes else []

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """Those sizes."""
        return _manager(one).brings(results) if self._lacking(one, observed) else []

    def _lacking(self, one: Instance, observed: Observation) -> list[Wish]:
        """The packages that are to be installed and are not as wanted."""
        if one.fields.state == ABSENT:
            return []
        wanted = self.wanted(one)
        return [wish for wish in _wishes(one) if observed.values.get(wish.name) != wanted[wish.name]]


def _manager(one: Instance) -> Manager:
    fields: Package = one.fields
    if fields.provider not in MANAGERS:
        message = f"`{one.resource.id}` has `provider: {fields.provider}`, which is not supported: one of {', '.join(MANAGERS)}"
        raise ManifestError.of("not-supported", message, span=one.place("provider"))
    return MANAGERS[fields.provider]


def _wishes(one: Instance) -> list[Wish]:
    fields: Package = one.fields
    manager = _manager(one)
    return [manager.wish(text, fields.version or "", fields.source or "") for text in fields.packages]


def _follows(one: Instance, wish: Wish) -> bool:
    """Whether the newest version is wanted; one that is declared counts before that."""
    return one.fields.state == LATEST and not wish.version


def _text(manager: Manager, wish: Wish, found: Installed | None, follows: bool) -> str:
    """The value of a package: the wanted text when it is as wanted."""
    text = wish.seen_as(found)
    if found is None or found.broken:
        return text
    if follows:
        return LATEST if found.newest and not manager.is_newer(found.newest, found.version) else _not_latest(found)
    downgrade = wish.version and text == found.version and "*" not in wish.version and manager.is_newer(found.version, wish.version)
    return f"{text}, newer: apt-get goes back" if downgrade else text


def _not_latest(found: Installed) -> str:
    return f"{found.version}; {found.newest} is there" if found.newest else f"{found.version}; no package source is known to have it"
