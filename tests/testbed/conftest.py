"""The fixtures of the test bed: brought up once, repaired after each test; skipped with the reason where it cannot be."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.base import BedError, build, obstacle
from testbed.bed import Bed
from testbed.machine import Machine
from testbed.network import Desk
from testbed.pipeline import IMPATIENT, SHORT_LEASE, Pipeline

Make = Callable[..., Pipeline]


@pytest.fixture(scope="session")
def the_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Two machines, lambda and intel, that are on."""
    reason = obstacle()
    if reason:
        pytest.skip(reason)
    try:
        build()
    except BedError as error:
        pytest.skip(f"the machines' file system cannot be made: {error}")
    with Bed(tmp_path_factory.mktemp("bed") / "bed", sshd=SHORT_LEASE, lent=Path(sysconfig.get_path("purelib"))) as made:
        yield made


@pytest.fixture
def bed(the_bed: Bed) -> Iterator[Bed]:
    """The test bed as it should be; what the test did to it is undone."""
    yield the_bed
    the_bed.repair()


@pytest.fixture
def box(bed: Bed) -> Machine:
    """The machine `lambda`, where faults happen."""
    return bed.machines["lambda"]


@pytest.fixture
def make(bed: Bed, tmp_path: Path) -> Iterator[Make]:
    """Makes projects: at a desk, the laptop unless another is given."""
    made: list[Pipeline] = []

    def pipeline(desk: Desk | None = None, **how: Any) -> Pipeline:
        root = tmp_path / f"project{len(made)}"
        root.mkdir()
        made.append(Pipeline(root, bed, desk, **how))
        return made[-1]

    yield pipeline
    for one in made:
        one.close()


@pytest.fixture
def project(make: Make) -> Pipeline:
    """A project with the ladder of three tasks on two machines."""
    return make().tasks()


@pytest.fixture
def impatient(make: Make) -> Pipeline:
    """The same, whose controllers give a silent machine up in seconds."""
    return make(silence=IMPATIENT).tasks()


@pytest.fixture(scope="session")
def undisturbed(the_bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What a run of the ladder without a fault ends with."""
    project = Pipeline(tmp_path_factory.mktemp("undisturbed"), the_bed).tasks().go()
    said = project.run("apply")
    assert said.exit == 0, said
    rows = project.proven()
    assert [row[:2] for row in rows] == [(name, "converged") for name in ("first", "second", "third")]
    return rows
