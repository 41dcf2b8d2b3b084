"""What the tests on the card stand on, tried on the CPU: their models, rows and run folders."""

from __future__ import annotations

import pytest

from tests.gpu.conftest import Runs
from tests.gpu.test_matrix import WAYS, answers, is_here

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# One of each way of training; the rest differ by what tests/train tries on the CPU.
ONE_EACH = [WAYS[place] for place in (0, 2, 3, 6, 10)]


@pytest.mark.parametrize(
    ("task", "strategy", "kind"), [way for way in ONE_EACH if is_here(*way, "16-bit")]
)
def test_a_cell_of_the_matrix_takes_its_step(tmp_path, models, task, strategy, kind):
    ended = Runs(tmp_path, None, models).one_step(kind, **answers(task, strategy, "16-bit"))
    assert not ended.failure, ended.failure
    assert ended.events["step"][-1]["step"] == 1
    assert ended.events["plan"][-1]["device"] == "cpu"


def test_a_failed_run_says_why(tmp_path, models):
    ended = Runs(tmp_path, None, models).one_step(learning_rate=1e-3, fp16=True)
    assert "fp16-needs-gpu" in ended.failure
