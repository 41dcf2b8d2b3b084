"""Memory that runs out in mid-run: the run ends as the undisturbed one does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

# The logits of a piece of the loss over sixteen rows are 48 MiB, which malloc always asks for anew.
ROOM_MIB = 25
TWICE = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "lora_dropout": 0.0}


class Small:
    """Lets memory run out while a model is given more than `most` rows, or tokens, at once.

    With `most` 0 nothing fits but what is computed again instead of kept.
    """

    def __init__(self, monkeypatch: Any, most: int, *, of: str = "rows", when: str = "forward"):
        import torch
        from peft.tuners.tuners_utils import BaseTuner

        self.failed, self.armed = 0, False
        self.seen: list[int] = []
        self.torch = torch
        kept, small = BaseTuner.forward, self

        def forward(tuner: Any, *args: Any, **more: Any) -> Any:
            ids = more["input_ids"]
            many = len(ids) if of == "rows" else ids.numel()
            small.seen.append(many)
            fits = many <= most or (most == 0 and tuner.model.is_gradient_checkpointing)
            if not fits and when == "forward":
                small.run_out()
            found = kept(tuner, *args, **more)
            if not fits and tuner.training and not small.armed:
                # The gradients of later layers are there by then, those of earlier ones are not.
                middle = [p for p in tuner.parameters() if p.requires_grad][4]
                handle = middle.register_hook(lambda _grad: small.run_out(handle))
                small.armed = True
            return found

        monkeypatch.setattr(BaseTuner, "forward", forward)

    def run_out(self, handle: Any = None) -> None:
        self.failed += 1
        self.armed = False
        if handle is not None:
            handle.remove()
        raise self.torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def ends(events: list[Any]) -> list[tuple[float, ...]]:
    """Return what every update and check measured."""
    found = []
    for event in events:
        if event.kind in ("step", "eval"):
            metrics = event.data["metrics"]
            # TRL's DPO takes these over the tokens of one side, which no share is kept of.
            apart = ("logits", "token_accuracy") if "rewards/chosen" in metrics else ("logits",)
            plain = [metrics[name] for name in sorted(metrics) if not any(a in name for a in apart)]
            found.append((event.data["loss"], event.data.get("tokens", 0), *plain))
    return found


def adapters(run: Any) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.output / "adapter_model.safetensors")


def alike(bench: Any, monkeypatch: Any, small: tuple[Any, ...], more: Any = None, **answers: Any):
    """Run undisturbed and with too little memory; hold both against each other."""
    import torch

    answers = {**TWICE, **answers, **(more or {})}
    plain = bench.prepare(**answers)
    events = bench.work(plain)
    assert events[-1].kind == "finished", events[-1].data
    with monkeypatch.context() as patched:
        scarce = Small(patched, *small[:1], **(small[1] if len(small) > 1 else {}))
        run = bench.prepare(**answers)
        metrics = bench.work(run)
    assert metrics[-1].kind == "finished", metrics[-1].data
    assert scarce.failed
    for one, other in zip(ends(events), ends(metrics), strict=True):
        assert one == pytest.approx(other, rel=2e-4, abs=2e-5)
    for name, value in adapters(plain).items():
        assert torch.allclose(value, adapters(run)[name], atol=2e-5), name
    return [event.data for event in metrics if event.kind == "adjusted"], scarce


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_else_changes(bench, monkeypatch, when):
    checks = {"eval_split": 0.5, "eval_steps": 1, "per_device_eval_batch_size": 8}
    adjusted, scarce = alike(bench, monkeypatch, (2, {"when": when}), checks)
    assert (adjusted[0]["micro_batch"], adjusted[0]["accumulation"]) == (2, 4)
    if when == "forward":  # a check has no backward
        assert adjusted[-1]["check_batch"] == 2
        assert scarce.failed == 3


def test_a_run_splits_down_to_one_row_then_enables_gradient_checkpointing(bench, monkeypatch):
    adjusted, _ = alike(bench, monkeypatch, (0,))
    sizes = [(a["micro_batch"], a["gradient_checkpointing"]) for a in adjusted]
    assert sizes == [(2, False), (1, False), (1, True)]


def test_packed_rows_are_split_between_documents(bench, monkeypatch):
    packed = {"packing": True, "max_seq_length": 96, "per_device_train_batch_size": 1}
    adjusted, scarce = alike(bench, monkeypatch, (60, {"of": "tokens"}), packed)
    assert adjusted
    assert max(scarce.seen) > 60 >= scarce.seen[-1]


PAIRS = [
    {
        "prompt": f"What does {number} mean?",
        "chosen": f"It means {'very ' * (number % 5)}much.",
        "rejected": f"Number {number}.",
    }
    for number in range(16)
]


@pytest.mark.parametrize("loss", ["sigmoid", "orpo"])
def test_pairs_stay_together(bench, monkeypatch, write_rows, loss):
    bench.rows = write_rows(PAIRS)
    answers = {"strategy": "dpo", "trainer": {"preference_loss": loss}}
    adjusted, _ = alike(bench, monkeypatch, (4,), answers)  # a pair is two rows of a batch
    assert [a["micro_batch"] for a in adjusted] == [2]


def test_batches_of_sorting_losses_are_not_split(bench, monkeypatch, write_rows):
    bench.rows = write_rows(PAIRS)
    Small(monkeypatch, 4)
    run = bench.prepare(**TWICE, strategy="dpo", trainer={"preference_loss": "aot"})
    metrics = bench.work(run)
    assert metrics[-1].kind == "failed"
    assert metrics[-1].data["cause"] == "out-of-memory"
    assert "not-divided" in [event.data.get("code") for event in metrics]


def test_summaries_are_weighted_by_tokens(bench, monkeypatch, write_rows, tiny_rewriter, tmp_path):
    rows = [
        {"text": f"Number {n} is {'very ' * n}large.", "summary": "large " * (1 + n % 5)}
        for n in range(16)
    ]
    bench.rows = write_rows(rows)
    folder = shutil.copytree(tiny_rewriter, tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dropout_rate": 0.0}))
    answers = {
        "task": "summarization",
        "kind": "encoder-decoder",
        "model_path": str(folder),
        "eval_split": 0.25,
        "eval_steps": 2,
        "per_device_eval_batch_size": 4,
    }
    adjusted, _ = alike(bench, monkeypatch, (2,), answers)
    assert adjusted[-1]["check_batch"] == 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is Linux's")
def test_a_failed_system_allocation_is_recovered_from():
    """No error is injected here. What malloc holds of tests before would be room, or none."""
    only = ["-o", "python_functions=alone_*", "-o", "addopts=", "-p", "no:cacheprovider"]
    call = [sys.executable, "-m", "pytest", "-q", *only, __file__]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout


def alone_with_little_memory(bench, monkeypatch):
    """Train where the system itself refuses what the batch asks for."""
    import gc
    import os
    import resource

    from modelforge.train.strategies import sft

    answers = {**TWICE, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1}
    answers |= {"data": {"loss_on": "all"}, "max_steps": 2}
    plain = bench.prepare(**answers)
    preserve_rng = bench.work(plain)
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    kept = sft.SftTrainer.train

    def scarce(trainer: Any, *args: Any, **more: Any) -> Any:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM_MIB * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        try:
            return kept(trainer, *args, **more)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

    monkeypatch.setattr(sft.SftTrainer, "train", scarce)
    run = bench.prepare(**answers)
    metrics = bench.work(run)
    assert metrics[-1].kind == "finished", metrics[-1].data
    assert [event for event in metrics if event.kind == "adjusted"]
    for one, other in zip(ends(preserve_rng), ends(metrics), strict=True):
        assert one == pytest.approx(other, rel=2e-4, abs=2e-5)


def test_a_row_that_never_fits_fails_with_out_of_memory(bench, monkeypatch):
    Small(monkeypatch, -1)
    metrics = bench.work(bench.prepare(**TWICE))
    assert metrics[-1].data["cause"] == "out-of-memory"
    assert [event.data["code"] for event in metrics if event.kind == "note"][-1] == "exhausted"


def test_without_the_autopilot_out_of_memory_fails_the_run(bench, monkeypatch):
    Small(monkeypatch, 2)
    metrics = bench.work(bench.prepare(**TWICE, memory={"autopilot": False}))
    assert metrics[-1].data["cause"] == "out-of-memory"


def test_a_resumed_run_keeps_the_smaller_size(bench, monkeypatch):
    answers = {**TWICE, "max_steps": 4, "eval_steps": 2}
    run = bench.prepare(**answers, trainer={"save_steps": 2})
    scarce = Small(monkeypatch, 2)
    assert bench.work(run)[-1].kind == "finished"
    shutil.rmtree(run.checkpoints / "checkpoint-4")
    shutil.rmtree(run.output)
    failed = scarce.failed
    metrics = bench.work(run)
    assert metrics[-1].kind == "finished", metrics[-1].data
    assert scarce.failed == failed
    assert [event.data["why"] for event in metrics if event.kind == "adjusted"][-1].startswith("As")


class AppleGpu:
    """The generator of an Apple GPU, played."""

    def __init__(self, monkeypatch):
        import torch

        self.state = torch.tensor([1, 2, 3], dtype=torch.uint8)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.mps, "get_rng_state", self.get)
        monkeypatch.setattr(torch.mps, "set_rng_state", self.set)

    def get(self):
        return self.state.clone()

    def set(self, state):
        self.state = state.clone()


def test_the_generator_of_an_apple_gpu_is_restored_for_a_retry(monkeypatch):
    from modelforge.train.trainer.state import preserve_rng as restored_after

    apple = AppleGpu(monkeypatch)
    with restored_after():
        apple.state += 1
    assert apple.state.tolist() == [1, 2, 3]


def test_the_generator_of_an_apple_gpu_is_in_the_checkpoint(monkeypatch, tmp_path):
    from modelforge.train.trainer.checkpointing import CheckpointMixin

    class Host:
        def _save_rng_state(self, folder):
            pass

        def _load_rng_state(self, checkpoint):
            pass

    class Trainer(CheckpointMixin, Host):
        pass

    apple, trainer = AppleGpu(monkeypatch), Trainer()
    trainer._save_rng_state(str(tmp_path))
    apple.state += 1
    trainer._load_rng_state(None)
    assert apple.state.tolist() == [2, 3, 4]
    trainer._load_rng_state(str(tmp_path))
    assert apple.state.tolist() == [1, 2, 3]
