"""What the fault tests share: a place, a nursery, one server, and a seed that is printed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("MODELFORGE_FAULT_SLACK", "4")

from tests.faults.nursery import Nursery, nursing
from tests.faults.place import Place, Tally
from tests.faults.serving import Server, serving


@pytest.fixture(scope="session")
def seed() -> int:
    """What chance is drawn from; MODELFORGE_FAULT_SEED repeats what was printed."""
    return int(os.environ.get("MODELFORGE_FAULT_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers that speaks in bytes."""
    from tests.gpu.building import decoder

    folder = tmp_path_factory.mktemp("tiny")
    return decoder(folder)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Real workers, quickly."""
    with nursing() as nursery:
        yield nursery


@pytest.fixture
def place(tmp_path: Path, tiny: Path) -> Place:
    """A home of its own for a test."""
    return Place.made(tmp_path, tiny)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[tuple[Server, Place]]:
    """One server over stand-in workers for the tests of a module, and its place."""
    place = Place.made(tmp_path_factory.mktemp("stage"), tiny)
    with serving(place.home) as server:
        yield server, place


def holds(tally: Tally) -> None:
    """Fail with what did not hold, and with the seed that repeats it."""
    assert tally.rows, "nothing was tried"
    assert not tally.wrong, f"seed {tally.seed}: {tally.wrong}"
