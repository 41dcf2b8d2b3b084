"""What the tests on the card stand on, tried on the CPU: their models, rows and run folders."""

from __future__ import annotations

import json

import pytest

from modelforge.hardware.nvidia import Gpu
from tests.gpu.conftest import Runs
from tests.gpu.test_matrix import CELLS, WAYS, answers

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# One of each way of training; the rest differ by what tests/train tries on the CPU.
ONE_EACH = [WAYS[place] for place in (0, 2, 3, 6, 10)]


@pytest.mark.parametrize(("task", "strategy", "kind"), ONE_EACH)
def test_a_cell_of_the_matrix_takes_its_step(tmp_path, models, task, strategy, kind):
    ended = Runs(tmp_path, None, models).one_step(kind, **answers(task, strategy, "16-bit"))
    assert not ended.failure, ended.failure
    assert ended.events["step"][-1]["step"] == 1
    assert ended.events["plan"][-1]["device"] == "cpu"


@pytest.mark.parametrize(("task", "strategy", "kind", "bits"), CELLS)
@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((9, 0), "bf16")])
def test_a_cell_is_planned_for_a_card(
    tmp_path, models, capability, precision, task, strategy, kind, bits
):
    """The card is played: what test_matrix starts on a real one is planned without it."""
    gpu = Gpu(0, compute_capability=capability)
    run = Runs(tmp_path, gpu, models).prepare(kind, **answers(task, strategy, bits))
    plan = json.loads(run.config.read_text(encoding="utf-8"))["plan"]
    assert (plan["device"], plan["precision"]) == ("cuda", precision)
    assert plan["quantization"] == (bits if bits in ("4-bit", "8-bit") else "none")
    assert plan["optim"] == ("paged_adamw_32bit" if bits == "full" else "adamw_torch_fused")


def test_a_failed_run_says_why(tmp_path, models):
    ended = Runs(tmp_path, None, models).one_step(learning_rate=1e-3, fp16=True)
    assert "fp16-needs-gpu" in ended.failure


@pytest.mark.parametrize(
    ("attention", "package"),
    [("flash_attention_2", "flash_attn"), ("flash_attention_3", "flash_attn_interface")],
)
def test_flash_attention_is_asked_for_where_it_is_installed(tmp_path, models, attention, package):
    gpu = Gpu(0, compute_capability=(9, 0))
    for packages, planned in (({package}, attention), (set(), "sdpa")):
        folder = tmp_path / planned
        folder.mkdir()
        run = Runs(folder, gpu, models, packages).prepare(
            bf16=True, model={"attn_implementation": attention}
        )
        plan = json.loads(run.config.read_text(encoding="utf-8"))["plan"]
        assert plan["attn_implementation"] == planned
