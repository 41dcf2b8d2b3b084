"""Plays a whole training without torch: phases, curves, evaluations, and an adapter at the end.

MODELFORGE_ACTOR_PACE is the seconds of an update.
"""

import json
import math
import os
import random
import time

import grows
import stage

from modelforge.runs import checkpoints
from modelforge.runs.event_types import (
    EvalEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    RewardTrialEvent,
    SamplesEvent,
    SavedEvent,
    StepEvent,
    TrialRunEvent,
    parse,
)
from modelforge.runs.progress.evaluation_losses import EvaluationLosses, write_evaluation_losses
from modelforge.runs.progress.measured_events import CoreEvent

PACE_S = float(os.environ.get("MODELFORGE_ACTOR_PACE", "0.05"))
folder, events = stage.enter()
settings = json.loads(folder.config.read_text(encoding="utf-8"))
total = settings["plan"]["total_steps"] or 60
rng = random.Random(3)
growing = settings["plan"].get("growing")
is_new = bool(settings["config"].get("pretraining", {}).get("enabled"))


def phase(name: str, text: str, count: int = 0) -> None:
    events.write(PhaseEvent(name=name, text=text))
    for done in range(1, count + 1):
        time.sleep(PACE_S)
        events.write(PhaseEvent(name=name, text=text, done=done * 50, total=count * 50))


def leave(kind: str, state: str, **data: object) -> None:
    events.write(parse(kind, data))
    stage.leave(folder, state)
    raise SystemExit


def save(step: int, number: int | None = None) -> None:
    made = folder.checkpoints / f"checkpoint-{step}"
    made.mkdir(parents=True, exist_ok=True)
    (made / "trainer_state.json").write_text("{}", encoding="utf-8")
    checkpoints.write_manifest(made, step=step, stage=number)


def measure(step: int) -> None:
    """Write what is measured of a model that is trained from nothing."""
    prompts = ("The capital of France is", "The opposite of hot is", "My favorite color is", "Gold")
    answers = [{"prompt": each, "source": "general", "text": f"words of step {step}"}
               for each in prompts]  # fmt: skip
    events.write(SamplesEvent(step=step, answers=answers))
    tasks = [{"name": f"task {place}", "score": 0.05 * (7 - place)} for place in range(10)]
    events.write(CoreEvent(step=step, score=0.125, low=0.1, high=0.15, tasks=tasks))


phase("loading", "Opening the training stack")
phase("loading", "Loading starter", 2)
phase("tokenizing", "Turning the rows into tokens", 3)
planned = PlanEvent(
    total_steps=total, epochs=1.13, train_rows=211, eval_rows=23,
    trainable_parameters=4_884_480, total_parameters=139_399_488, trained_tokens=5_766,
    all_tokens=13_666, truncated_rows=0, max_length=128, device="cpu", precision="fp32",
    quantization="none",
)  # fmt: skip
if not growing:  # its stages have plans of their own
    events.write(planned)
found, _damaged = checkpoints.newest_valid(folder)
first = found.step if found else 0
if found:
    events.write(ResumedEvent(step=first, checkpoint=found.name))
if settings.get("trial_run"):
    for step in range(7):
        if folder.stop.exists():
            leave("stopped", "stopped", step=step, kept=False)
        time.sleep(PACE_S)
        events.write(PhaseEvent(name="trial_run", text="Training", done=step, total=7))
    save(7)
    measured = {
        "peak_gib": 1.82, "seconds_per_update": PACE_S, "seconds_per_update_worst": 2 * PACE_S,
        "tokens_per_s": 410.0, "seconds_per_eval_batch": PACE_S, "save_seconds": 0.3,
        "final_seconds": 0.1, "checkpoint_gib": 0.06, "load_seconds": 0.5, "prepare_seconds": 2.0,
        "updates": 7, "micro_batch": 2, "accumulation": 4, "stages": 1, "earlier_seconds": 0.0,
    }  # fmt: skip
    if settings["config"].get("strategy") == "rlhf":
        events.write(
            RewardTrialEvent(
                verdict="cheatable", sentence="One word, repeated, gets 1.00; others get 0.87.",
                advice="Choose another reward.", groups=64, group_size=4, no_signal=24, low=0.26,
                high=0.5, mean=0.54, spread=0.21, best=0.87, expected=0.95, seconds=3.1,
                cheats={"empty": 0.0, "copied": 0.4, "repeated": 1.0, "longest": 0.3},
        ))  # fmt: skip
    events.write(TrialRunEvent(**measured))
    leave("finished", "finished", steps=7, trial_run=True)


def check_stop(step: int, number: int | None = None) -> None:
    if folder.stop.exists():
        kept = folder.stop.read_text(encoding="utf-8").strip() == "keep"
        if kept and step > 1:
            save(step - 1, number)
        leave("stopped", "stopped", step=step - 1, kept=kept, stage=number)


phase("training", "Training")
began, loss, best = time.time(), 0.0, 9.0
if growing:
    first = total = grows.stages(growing, events, PACE_S, check_stop)
    loss = best = grows.end(growing)
for step in range(first + 1, total + 1):
    check_stop(step)
    time.sleep(PACE_S)
    loss = 0.7 + 2.9 * math.exp(-step / (total / 4)) + rng.uniform(-0.12, 0.12)
    events.write(
        StepEvent(step=step, epoch=1.13 * step / total, loss=loss,
        learning_rate=5e-4 * 0.5 * (1 + math.cos(math.pi * step / total)), grad_norm=1.1,
        tokens=480, tokens_per_s=410 + rng.uniform(-30, 30), seconds=PACE_S,
        cpu_percent=96 + rng.uniform(-4, 4), ram_gib=2.6 + step / total / 3, gpu_percent=None,
        vram_gib=None,
    ))  # fmt: skip
    if step % max(1, total // 3) == 0:
        events.write(PhaseEvent(name="evaluating", text="Checking on held-out rows"))
        time.sleep(PACE_S)
        held = loss + 0.09
        bits = {"bits_per_byte": held / 1.4} if is_new else {}
        events.write(
            EvalEvent(
                step=step, epoch=1.13 * step / total, loss=held, best=held < best, metrics=bits
            )
        )
        if is_new:
            measure(step)
        best = min(best, held)
is_model = is_new or growing
# Both ways are evaluated on the same rows: 12 batches of 4.
after = [(best * 4 + 0.1 * (n % 3 - 1), 4) for n in range(12)]
before = [(grows.START * 4, 4)] * 12 if growing else []
write_evaluation_losses(folder, EvaluationLosses("rows", before, after))
phase("saving", "Saving the model" if is_model else "Saving the adapter")
folder.output.mkdir()
files = {"adapter_config.json": "{}", "adapter_model.safetensors": "x" * 5000}
if is_model:
    files = {"config.json": "{}", "model.safetensors": "x" * 5000}
for name, text in files.items():
    (folder.output / name).write_text(text, encoding="utf-8")
events.write(SavedEvent(step=total, path="output", best=True))
leave("finished", "finished", steps=total, seconds=time.time() - began, output="output",
      loss=loss, eval_loss=best, best_step=total)  # fmt: skip
