"""What growing a model gives against LoRA, and against all new layers at once, for the same FLOPs.

The starter model grows by stages with a frozen trunk. Beside it, LoRA and a run that adds all
layers in one stage take as many steps as the same FLOPs allow. All are evaluated on the same rows,
and the intervals are of the differences on these rows. Prints a sentence for each comparison.

With `--cache` one stage is trained for two epochs with and without a cache of the trunk, and the
seconds of a step in the second epoch are compared. With `--estimates` the plan of each stage, and
of a joint stage at the end, is compared with what the worker takes.

    python bench/growing.py [--sample units] [--stages 2] [--steps 20] [--seed 0]
                            [--cache | --estimates]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import EXIT_S, keep, own_home, recorded, trained, until
from planted_rows import Row, newest, read_sample, write

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.events import read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.evaluation_losses import Batch, interval, mean
from modelforge.units import GIB

NAME = "growing"
HELD_OUT, BATCH, LENGTH = 0.2, 4, 256
WAYS = ("grown", "lora", "at once")
CACHE, ESTIMATES = "growing-cache", "growing-estimates"
# Settings of growing, and others, by name.
SETUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "frozen": ({}, {}),
    "adapters in the trunk": ({"trunk": "lora"}, {}),
    "in front": ({"direction": "prepend"}, {}),
    "recomputed": ({}, {"gradient_checkpointing": True}),
}


def main() -> None:
    """Train the three ways, evaluate them and the starter, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", default="units")
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="of each stage")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=0, help="of the sample; 0 takes all")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--estimates", action="store_true")
    options = parser.parse_args()
    rows = read_sample(options.sample)
    random.Random(options.seed).shuffle(rows)
    rows = rows[: options.rows or None]
    cut = round(HELD_OUT * len(rows))
    if options.cache:
        with recorded(CACHE):
            times = cached(options, rows[cut:], rows[:cut])
        keep(CACHE, [times])
        print(json.dumps(times))
        return
    if options.estimates:
        estimates(options, rows[cut:], rows[:cut])
        return
    with recorded(NAME), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = own_home(folder / "home")
        files = write(folder / "rows.jsonl", rows[cut:]), write(folder / "held.jsonl", rows[:cut])
        losses = {"starter": losses_of(home.starter_model, rows[:cut])}
        found, flops = [], 0.0
        for way in WAYS:
            values = settings(way, options, files, flops)
            if way == "at once":
                values = of_flops(home, values, flops)
            run, seconds = train(home, values)
            plan = read_json(run.config)["plan"]
            flops = flops or plan["flops"]
            losses[way] = losses_of(run.merged if way == "lora" else run.output, rows[:cut])
            found.append(row(way, plan, losses, seconds))
            print(json.dumps(found[-1]), flush=True)
            keep(NAME, found)
    for other in WAYS[1:]:
        print(sentence(losses["grown"], losses[other], other))


def train(home: Home, values: dict[str, Any]) -> tuple[RunFolder, float]:
    """Train once; return the folder of the run, and the seconds."""
    began = time.monotonic()
    trained(home, values)
    return RunFolder(home.runs / newest(home.runs).id), time.monotonic() - began


def of_flops(home: Home, values: dict[str, Any], flops: float) -> dict[str, Any]:
    """Return the settings of a growing model with as many steps as the FLOPs allow."""
    forge = Forge(home)
    try:
        plan = forge.preflight.check(Layer("bench", values)).plan
    finally:
        forge.close()
    assert plan is not None, "the settings are valid"
    assert plan.flops, "the sizes of the starter are known"
    group = values["progressive"]
    steps = max(1, round(group["steps_per_stage"] * flops / plan.flops))
    return values | {"progressive": group | {"steps_per_stage": steps}}


def cached(options: argparse.Namespace, training: list[Row], held: list[Row]) -> dict[str, Any]:
    """Return the seconds of a step in the second epoch, with and without a cache of the trunk.

    `times` is how many times as fast it is, `planned_times` what its FLOPs say.
    """
    found: dict[str, Any] = {}
    losses, flops = {}, {}
    for name, is_cached in (("plain", False), ("cached", True)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            home = own_home(folder / "home")
            files = write(folder / "rows.jsonl", training), write(folder / "held.jsonl", held)
            values = settings("grown", options, files, 0.0)
            group = {"enabled": True, "stages": 1, "epochs_per_stage": 2}
            group["cache_activations"] = is_cached
            run, _ = train(home, values | {"progressive": group})
            steps = [event.data for event in read_events(run.events)[0] if event.kind == "step"]
            (stage,) = read_json(run.config)["plan"]["growing"]["stages"]
        second = [step["seconds"] for step in steps[len(steps) // 2 :]]
        found[name] = round(statistics.median(second), 3)
        losses[name] = [step["loss"] for step in steps]
        flops[name] = stage["flops_per_token"]
    # The plan has the mean of both epochs.
    planned = flops["plain"] / (2 * flops["cached"] - flops["plain"])
    return found | {
        "times": round(found["plain"] / found["cached"], 2),
        "planned_times": round(planned, 2),
        "steps": len(losses["plain"]),
        "same_losses": losses["plain"] == losses["cached"],
        "last_loss": losses["plain"][-1],
    }


def estimates(options: argparse.Namespace, training: list[Row], held: list[Row]) -> None:
    """Print and keep the planned and the measured memory and seconds of each stage, by setup."""
    found: list[dict[str, Any]] = []
    with recorded(ESTIMATES):
        for setup, (group, more) in SETUPS.items():
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                home = own_home(folder / "home")
                files = write(folder / "rows.jsonl", training), write(folder / "held.jsonl", held)
                values = settings("grown", options, files, 0.0)
                values["progressive"] |= {"joint_tuning_steps": options.steps, **group}
                for stage in planned_and_measured(home, {**values, **more}):
                    found.append({"setup": setup, **stage})
                    print(json.dumps(found[-1]), flush=True)
            keep(ESTIMATES, found)


def planned_and_measured(home: Home, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Train once, and return memory and seconds of each stage as planned and as measured.

    The memory is the peak of the worker from the time the stage has its layers to the time the next
    one has, so it includes saving, and loading the next model.
    """
    forge = Forge(home)
    try:
        report = forge.preflight.check(Layer("bench", values)).report
        assert report is not None, "the settings are valid"
        run = forge.runs.folder(forge.runs.start(Layer("bench", values)))
        peaks: dict[int, float] = {}
        stage = 0
        while not forge.runs.state(run.id).is_over:
            begun = sum(event.kind == "growth" for event in forge.runs.events(run.id)[0])
            process = Path(f"/proc/{(find_json(run.process) or {}).get('pid')}")
            with contextlib.suppress(OSError, StopIteration):
                if begun > stage:
                    stage = begun
                    (process / "clear_refs").write_text("5", encoding="ascii")  # resets the peak
                status = (process / "status").read_text("utf-8").splitlines()
                high = next(line for line in status if line.startswith("VmHWM"))
                peaks[stage] = int(high.split()[1]) * 1024 / GIB
            time.sleep(0.05)
        events, _ = forge.runs.events(run.id)
        if events[-1].kind != "finished":
            raise RuntimeError(forge.runs.log(run.id))
        until(run.exit.is_file, EXIT_S, f"the worker of {run.id} did not end")
    finally:
        forge.close()
    steps = [event.data for event in events if event.kind == "step"]
    return [
        {
            "stage": planned.name,
            "steps": planned.steps,
            "planned_gib": round(planned.memory_gib or 0.0, 3),
            "measured_gib": round(peaks[number], 3),
            "planned_s": round(planned.seconds or 0.0, 2),
            "measured_s": round(
                sum(step["seconds"] for step in steps if step["stage"] == number), 2
            ),
        }
        for number, planned in enumerate(report.stages, 1)
    ]


def row(way: str, plan: dict[str, Any], losses: dict[str, list[Batch]], seconds: float) -> Any:
    """Return the figures of one way."""
    low, high = interval(losses["starter"], losses[way])
    return {
        "way": way,
        "steps": plan["total_steps"],
        "flops": plan["flops"],
        "loss_before": round(mean(losses["starter"]), 4),
        "loss_after": round(mean(losses[way]), 4),
        "gain_low": round(low or 0.0, 4),
        "gain_high": round(high or 0.0, 4),
        "rows": len(losses[way]),
        "seconds": round(seconds),
    }


def sentence(grown: list[Batch], other: list[Batch], name: str) -> str:
    """Return which way was better on the same rows, with the interval of the difference."""
    low, high = interval(other, grown)
    difference = mean(other) - mean(grown)
    if low is None or high is None:
        meaning = "there are too few rows for an interval"
    elif low > 0:
        meaning = "growing was better"
    elif high < 0:
        meaning = f"{name} was better"
    else:
        meaning = "no difference is shown"
    return (
        f"For the same FLOPs the evaluation loss of growing is lower than that of {name} by "
        f"{difference:.3f} (95 % interval {low or 0.0:.3f} to {high or 0.0:.3f}): {meaning}."
    )


def settings(
    way: str, options: argparse.Namespace, files: tuple[Path, Path], flops: float
) -> dict[str, Any]:
    """Return the settings of a way; `flops` are those of the grown model, which comes first."""
    values: dict[str, Any] = {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(files[0]),
        "compute_specs": "low_end",
        "use_4bit": False,
        "learning_rate": options.rate,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "eval_steps": 10_000,
        "max_seq_length": LENGTH,
        "hardware": {"device": "cpu"},
        "trainer": {"seed": options.seed},
        "data": {"validation_sources": [{"path": str(files[1])}]},
        "evaluation": {"samples": 0, "keep_best": False, "generated_rows": 0},
    }
    if way == "lora":
        lora = {"trainer": {"seed": options.seed, "target_flops": flops}, "lora_r": 16}
        return {**values, **lora, "adapter": {"merge_after_training": True}}
    group = {"enabled": True, "stages": options.stages, "steps_per_stage": options.steps}
    if way == "at once":
        steps = options.stages * options.steps
        group |= {"stages": 1, "layers_per_stage": options.stages, "steps_per_stage": steps}
    return values | {"progressive": group}


def losses_of(folder: Path, rows: list[Row]) -> list[Batch]:
    """Return the sum of the losses of all tokens of each row, and their number."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    with torch.no_grad():
        for each in rows:
            text = tokenizer.apply_chat_template(messages(each), tokenize=False)
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
            ids = ids[:, :LENGTH]
            count = ids.shape[1] - 1
            found.append((float(model(ids, labels=ids).loss) * count, count))
    return found


def messages(each: Row) -> list[dict[str, str]]:
    """Return a row of a sample, whose answer is in the column `output`, as messages."""
    question = next(value for name, value in each.items() if name != "output")
    return [
        {"role": "user", "content": str(question)},
        {"role": "assistant", "content": str(each["output"])},
    ]


if __name__ == "__main__":
    main()
