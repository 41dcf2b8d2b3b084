"""The batch size is found before the training, and finding it changes nothing that is learned."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.torch

AUTO = {"memory": {"auto_batch_size": True}}
PARTED = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
HALVED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


@pytest.fixture
def speeds(monkeypatch):
    """Really try every size, but report these tokens a second."""
    from modelforge.train.trainer.batch_size import _Trials

    def report(**known):
        really, tried = _Trials.tokens_per_s, []

        def speed(self, size):
            assert really(self, size) is not None
            tried.append(size)
            return known.get(f"of_{size}")

        monkeypatch.setattr(_Trials, "tokens_per_s", speed)
        return tried

    return report


def losses(events):
    return [event.data["loss"] for event in events if event.kind == "step"]


def reported(events, kind):
    return [event.data for event in events if event.kind == kind]


def test_the_fastest_batch_size_is_chosen_and_the_rng_state_is_unchanged(bench, speeds):
    tried = speeds(of_1=100.0, of_2=150.0, of_4=200.0, of_8=205.0)
    events = bench.work(bench.prepare(**AUTO, **PARTED, lora_dropout=0.3))
    assert events[-1].kind == "finished", events[-1].data
    assert tried == [1, 2, 4, 8]
    adjusted = reported(events, "adjusted")[0]
    assert (adjusted["micro_batch"], adjusted["accumulation"]) == (4, 2)
    assert "2.00 times as fast as 1" in adjusted["why"]
    plain = bench.work(bench.prepare(**HALVED, lora_dropout=0.3))
    assert losses(events) == losses(plain)
    assert [e["tokens"] for e in reported(events, "step")] == [
        e["tokens"] for e in reported(plain, "step")
    ]


def test_a_batch_size_that_does_not_fit_is_lowered(bench, monkeypatch):
    from modelforge.train.trainer.batch_size import _Trials

    def once(self, inputs):
        if len(inputs["input_ids"]) > 2:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
        return 1.0

    monkeypatch.setattr(_Trials, "_step_seconds", once)
    events = bench.work(bench.prepare(**AUTO, **HALVED))
    assert events[-1].kind == "finished", events[-1].data
    adjusted = reported(events, "adjusted")[0]
    assert (adjusted["micro_batch"], adjusted["accumulation"]) == (2, 4)
    assert "does not fit" in adjusted["why"]


def test_real_trials_report_a_result_and_keep_the_rows_per_step(bench):
    events = bench.work(bench.prepare(**AUTO, **PARTED, lora_dropout=0.0, group_by_length=False))
    plain = bench.work(bench.prepare(**PARTED, lora_dropout=0.0, group_by_length=False))
    assert events[-1].kind == "finished", events[-1].data
    kept = [note for note in reported(events, "note") if note["code"] == "batch-size"]
    assert reported(events, "adjusted") or kept
    assert losses(events) == pytest.approx(losses(plain), rel=1e-4)


@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_32bit"])
def test_where_the_optimizer_does_not_fit_on_the_gpu_nothing_is_tried(monkeypatch, optim):
    """A paged optimizer may keep its state in the computer's memory."""
    import torch

    from modelforge.train.trainer.batch_size import _Trials

    asked = []

    def full(size, **_kwargs):
        asked.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model = torch.nn.Linear(8, 8, bias=False)
    monkeypatch.setattr(torch, "empty", full)
    trials = object.__new__(_Trials)
    trials._plan = SimpleNamespace(device="cuda", optim=optim, trained_bytes=4)
    trials._trainer = SimpleNamespace(model=model)
    trials._is_short = False
    assert trials._optimizer_memory() is None
    is_paged = optim.startswith("paged_")
    assert asked == ([] if is_paged else [512])
    assert trials._is_short is not is_paged
    if not is_paged:
        assert trials.tokens_per_s(1) is None


def test_batch_sizes_divide_the_rows_of_a_step():
    from modelforge.train.trainer.batch_size import larger_sizes, smaller_sizes

    assert larger_sizes(2, 6, 64) == [2, 3, 4, 6, 12]
    assert larger_sizes(2, 6, 5) == [2, 3, 4]
    assert larger_sizes(3, 1, 64) == [3]
    assert smaller_sizes(6, 2) == [4, 3, 2, 1]


def test_a_resumed_run_keeps_its_batch_size(bench, speeds):
    from modelforge.runs.atomic_files import read_json

    speeds(of_1=100.0, of_2=150.0)
    run = bench.prepare(**AUTO, **PARTED, trainer={"save_steps": 2}, max_steps=3)
    bench.work(run)
    kept = sorted(run.checkpoints.glob("checkpoint-*/progress.json"))
    assert kept
    assert read_json(kept[0])["parts"]["batch_size"] == {"batch": 2, "accumulation": 4}
