"""Broken files of the catalogue, repaired by one click, and then really trained on."""

import pytest

from modelforge.data.checks.summary import summarize
from modelforge.data.repair.copy import repair_file
from modelforge.paths import Home
from tests.data.checks.broken_files import CASES
from tests.train.conftest import Bench

pytestmark = [
    pytest.mark.torch,
    # torch and TRL warn of their own ways; what ours do is asserted.
    pytest.mark.filterwarnings("default"),
]

# Files of comparisons are for dpo; they are repaired as well, and trained on once that is here.
LEARNED = [case for case in CASES if case.repaired and case.kind != "Preference"][:20]


def test_there_are_twenty():
    assert len(LEARNED) == 20


def marks(number):
    """Three are enough for every change; `-m slow` trains on the others too."""
    return () if number % 8 == 0 else pytest.mark.slow


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.number} {case.title}", marks=marks(number))
        for number, case in enumerate(LEARNED)
    ],
)
def test_a_repaired_file_is_trained_on(bench, tmp_path, case):
    broken = tmp_path / case.file
    case.make(broken)
    mended = repair_file(broken, Home(tmp_path / "home")).path
    assert summarize(mended).rows >= 2
    learner = Bench(tmp_path / "mended", bench.model, mended)
    events = learner.work(learner.prepare(max_steps=1))
    assert events[-1].kind == "finished", events[-1].data
    assert any(event.kind == "step" for event in events)
