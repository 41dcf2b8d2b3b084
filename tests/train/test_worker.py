"""Whole runs on a tiny model with real TRL: what they leave, how they end, what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from modelforge.runs.events import EventRecord

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def of(events: list[EventRecord], kind: str) -> list[dict[str, Any]]:
    """Return the data of all events of one kind."""
    return [event.data for event in events if event.kind == kind]


def adapter_bytes(run: Any) -> bytes:
    return (run.output / "adapter_model.safetensors").read_bytes()


def stop_at(run: Any, step: int, wanted: str) -> threading.Thread:
    """Write the stop file once the run has told of update `step`."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text = run.events.read_text() if run.events.exists() else ""
            if f'"step": {step},' in text:
                run.stop.write_text(wanted)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_run_leaves_an_adapter_that_plain_peft_loads_and_that_changes_the_model(bench):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    run = bench.prepare(eval_split=0.25, eval_steps=2, max_steps=4)
    events = bench.work(run)
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    model = AutoPeftModelForCausalLM.from_pretrained(run.output).eval()
    asked = [{"role": "user", "content": "What does red mean?"}]
    ids = tokenizer.apply_chat_template(asked, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        tuned = model(ids).logits
        with model.disable_adapter():
            base = model(ids).logits
    assert not torch.allclose(tuned, base)
    assert [event.kind for event in events[:2]] == ["started", "phase"]
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    phases = [data["name"] for data in of(events, "phase")]
    assert list(dict.fromkeys(phases)) == [
        "loading",
        "tokenizing",
        "training",
        "evaluating",
        "saving",
    ]
    steps = of(events, "step")
    assert [data["step"] for data in steps] == [1, 2, 3, 4]
    assert all(data["tokens"] > 0 and data["tokens_per_s"] > 0 for data in steps)
    assert all(0 <= data["cpu_percent"] <= 100 and data["ram_gib"] > 0 for data in steps)
    checks = of(events, "eval")
    assert [data["step"] for data in checks] == [2, 4]
    (end,) = of(events, "finished")
    best = min(checks, key=lambda data: data["loss"])
    assert (end["best_step"], end["eval_loss"]) == (best["step"], best["loss"])
    assert end["output"] == "output"
    (plan,) = of(events, "plan")
    assert (plan["total_steps"], plan["train_rows"], plan["eval_rows"]) == (4, 12, 4)
    assert 0 < plan["trained_tokens"] < plan["all_tokens"]
    assert 0 < plan["trainable_parameters"] < plan["total_parameters"]
    record = json.loads(run.exit.read_text())
    assert (record["state"], record["code"]) == ("finished", 0)
    assert not (run.path / ".output-staged").exists()


def test_the_output_is_the_best_evaluation_not_the_last(bench):
    # A rate this high wrecks the model after the first updates.
    run = bench.prepare(
        eval_split=0.25,
        eval_steps=1,
        max_steps=6,
        learning_rate=1.0,
        max_grad_norm=0,
        warmup_ratio=0,
        optim="sgd",
        lr_scheduler_type="linear",
    )
    events = bench.work(run)
    checks = of(events, "eval")
    (end,) = of(events, "finished")
    best = min(checks, key=lambda data: data["loss"])["step"]
    assert end["best_step"] == best
    assert [data["step"] for data in checks if data["best"]][-1] == best
    kept = run.checkpoints / f"checkpoint-{best}" / "adapter_model.safetensors"
    assert kept.read_bytes() == adapter_bytes(run)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(bench):
    first, second, other = (bench.prepare(trainer={"seed": seed}) for seed in (1, 1, 2))
    for run in (first, second, other):
        bench.work(run)
    assert adapter_bytes(first) == adapter_bytes(second)
    assert adapter_bytes(first) != adapter_bytes(other)


@pytest.mark.parametrize(
    ("answers", "settings"),
    [({"use_4bit": True, "use_nested_quant": True}, "4-bit"), ({"use_8bit": True}, "8-bit")],
    ids=["4-bit", "8-bit"],
)
def test_quantized_weights_train_on_the_cpu_with_adapters_in_full_precision(
    bench, answers, settings
):
    from safetensors.torch import load_file

    run = bench.prepare(strategy="qlora", gradient_checkpointing=True, max_steps=2, **answers)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert of(events, "plan")[0]["quantization"] == settings
    tensors = load_file(run.output / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}
    assert any(tensor.abs().max() > 0 for name, tensor in tensors.items() if "lora_B" in name)


def test_packing_puts_several_rows_into_one_sequence(bench):
    run = bench.prepare(packing=True, max_seq_length=256, max_steps=-1, eval_split=0.25)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    (plan,) = of(events, "plan")
    assert plan["train_rows"] == 12
    assert plan["total_steps"] < 6
    assert sum(data["tokens"] for data in of(events, "step")) == plan["all_tokens"]


def test_bf16_trains_on_the_cpu_when_it_is_asked_for(bench):
    events = bench.work(bench.prepare(bf16=True, max_steps=2))
    assert events[-1].kind == "finished", events[-1].data
    assert of(events, "plan")[0]["precision"] == "bf16"


def test_conversations_and_plain_text_are_learned_from_as_well(bench, write_rows):
    turns = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second."},
    ]
    for rows in ([{"messages": turns}] * 4, [{"text": "Once upon a time."}] * 4):
        bench.rows = write_rows(rows)
        events = bench.work(bench.prepare(max_steps=1))
        assert events[-1].kind == "finished", events[-1].data


def test_stop_and_keep_ends_soon_and_leaves_the_adapter(bench):
    run = bench.prepare(max_steps=5000)
    watcher = stop_at(run, 2, "keep")
    events = bench.work(run)
    watcher.join()
    assert events[-1].kind == "stopped"
    assert events[-1].data["kept"] is True
    assert 2 <= events[-1].data["step"] < 5000
    assert events[-1].data["step"] == of(events, "step")[-1]["step"]
    assert run.has_adapter
    assert json.loads(run.exit.read_text())["state"] == "stopped"


def test_stop_and_discard_leaves_nothing(bench):
    run = bench.prepare(max_steps=5000, eval_steps=1, eval_split=0.25)
    watcher = stop_at(run, 2, "discard")
    events = bench.work(run)
    watcher.join()
    assert (events[-1].kind, events[-1].data["kept"]) == ("stopped", False)
    assert not run.output.exists()
    assert not run.checkpoints.exists()


def test_a_stop_before_the_first_update_keeps_nothing(bench):
    run = bench.prepare()
    run.stop.write_text("keep")
    events = bench.work(run)
    assert (events[-1].kind, events[-1].data) == (
        "stopped",
        {"step": 0, "kept": False, "best_step": None},
    )
    assert of(events, "plan") == []


def test_a_terminate_signal_stops_and_keeps(bench):
    run = bench.prepare(max_steps=5000)

    def terminate() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if run.events.exists() and '"step": 2,' in run.events.read_text():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=terminate, daemon=True)
    thread.start()
    events = bench.work(run)
    thread.join()
    assert (events[-1].kind, events[-1].data["kept"]) == ("stopped", True)
    assert run.has_adapter


def test_a_missing_model_is_reported_without_a_traceback(bench, tmp_path):
    run = bench.prepare(model_path=str(tmp_path / "nowhere"))
    events = bench.work(run)
    failed = events[-1]
    assert (failed.kind, failed.data["cause"]) == ("failed", "model-missing")
    assert "nowhere" in failed.data["what"]
    assert failed.data["remedy"]
    assert "Traceback" not in run.events.read_text()
    assert json.loads(run.exit.read_text())["code"] == 1


def test_a_model_with_pickle_weights_only_is_refused(bench, tiny_model, tmp_path):
    import shutil

    import torch

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    failed = bench.work(bench.prepare(model_path=str(folder)))[-1]
    assert (failed.kind, failed.data["cause"]) == ("failed", "model-unsafe")


def test_rows_that_leave_nothing_to_train_fail_before_training(bench):
    run = bench.prepare(max_seq_length=8)
    failed = bench.work(run)[-1]
    assert (failed.kind, failed.data["cause"]) == ("failed", "nothing-to-learn")
    assert "8 tokens" in failed.data["what"]


def test_a_missing_data_file_is_reported(bench):
    run = bench.prepare()
    bench.rows.unlink()
    failed = bench.work(run)[-1]
    assert (failed.kind, failed.data["cause"]) == ("failed", "data")
    assert "rows.jsonl" in failed.data["what"]


def test_a_changed_data_file_is_noted(bench, write_rows):
    run = bench.prepare(max_steps=1)
    write_rows([{"input": f"{number}?", "output": "Yes."} for number in range(6)])
    assert "data-changed" in [data["code"] for data in of(bench.work(run), "note")]


def test_a_nan_loss_fails_the_run_with_its_cause(bench, tiny_model, tmp_path):
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(tiny_model, folder)
    tensors = load_file(folder / "model.safetensors")
    # Finite, so that the model loads; the logits overflow.
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], 3e38)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    failed = bench.work(bench.prepare(model_path=str(folder)))[-1]
    assert (failed.kind, failed.data["cause"]) == ("failed", "loss-not-finite")


def test_the_end_token_is_saved_with_the_output(bench, tiny_model, tmp_path):
    import shutil

    folder = tmp_path / "endless"
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 0}')
    run = bench.prepare(model_path=str(folder), max_steps=1)
    events = bench.work(run)
    assert "end-token-added" in [data["code"] for data in of(events, "note")]
    saved = json.loads((run.output / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [0, 2]


def test_a_warm_worker_takes_a_run_and_writes_its_log(bench):
    run = bench.prepare(max_steps=1)
    warm = subprocess.Popen(
        [sys.executable, "-m", "modelforge.train", "--warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        text=True,
    )
    assert warm.stdin
    assert warm.stdout
    try:
        assert json.loads(warm.stdout.readline()) == {"ready": True}
        warm.stdin.write(json.dumps({"run": str(run.path)}) + "\n")
        warm.stdin.flush()
        assert json.loads(warm.stdout.readline()) == {"taken": True}
        assert warm.stdout.read() == ""
        assert warm.wait(timeout=60) == 0
    finally:
        warm.kill()
        warm.communicate()
    assert json.loads(run.exit.read_text())["state"] == "finished"
    log = run.log.read_text()
    assert "step 1  loss" in log
    assert "Finished after 1 steps" in log
