"""One run from its folder to its output: introduces provider and strategy, and says how it ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import sys
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan, releases_memory
from modelforge.errors import ForgeError, Problem
from modelforge.modeling.errors import WorkerError, explain
from modelforge.runs.atomic_files import write_json
from modelforge.runs.checkpoints import Checkpoint
from modelforge.runs.event_types import FailedEvent, StartedEvent
from modelforge.runs.events import EventWriter
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.disk_reserve import DiskReserve
from modelforge.train import environment, resume
from modelforge.train.event_log import EventLog
from modelforge.train.job import Job, WorkerContext
from modelforge.train.stop import Stop, StopRequested, TrialRunFinished

# The provider's module is imported before the strategy's: Unsloth must come before trl.
PROVIDERS = {
    "huggingface": "modelforge.modeling.providers.huggingface",
    "unsloth": "modelforge.modeling.providers.unsloth",
}
# What these providers rewrite as they are imported, so that it must not be there yet.
REWRITTEN = {"unsloth": ("transformers", "trl", "peft")}
METHODS = {
    "sft": "modelforge.train.strategies.sft",
    "dpo": "modelforge.train.strategies.dpo",
    "kto": "modelforge.train.strategies.kto",
    "orpo": "modelforge.train.strategies.orpo",
    "rlhf": "modelforge.train.strategies.rlhf",
    "seq2seq": "modelforge.train.strategies.seq2seq",
    "span": "modelforge.train.strategies.qa",
}
RESTARTED = "MODELFORGE_WORKER_RESTARTED"


def run_worker(path: Path) -> int:
    """Work on the run in `path` and return the exit code; whatever happens, the run says it."""
    run = RunFolder(path)
    environment.configure_process()
    stop = Stop(run.stop)
    stop.listen()
    reserve = DiskReserve(run.path)
    reserve.hold()
    with EventWriter(run.events) as events:
        log = EventLog(events, make_room=reserve.release)
        events.write(StartedEvent(pid=os.getpid(), birth=psutil.Process().create_time()))
        found = None
        try:
            found = resume.find_resume_point(run, log)
            _run(run, stop, log, found)
        except TrialRunFinished:
            pass  # it has told all it measured, and that it is finished
        except StopRequested:
            resume.end_before_training(run, log, found, stop.mode or "keep")
        except Exception as error:  # noqa: BLE001  # the outermost frame: a crash becomes an event
            _failed(run, error, log)
    reserve.release()
    state = log.ended or "failed"
    code = int(state == "failed")
    with contextlib.suppress(ForgeError):
        write_json(run.exit, {"state": state, "code": code, "t": time.time()})
    return code


def preload(provider: str = "huggingface", method: str = "sft") -> tuple[Any, Any]:
    """Import the training stack, provider first, and return both modules. Touches no CUDA."""
    _require(PROVIDERS, "provider", provider)
    _require(METHODS, "strategy", method)
    provides = importlib.import_module(PROVIDERS[provider])
    teaches = importlib.import_module(METHODS[method])
    # What was imported stays; a collector that walks it all again takes a third of a second.
    gc.freeze()
    return provides, teaches


def needs_fresh_process(path: Path) -> bool:
    """Say whether the provider of the run in `path` must come before what this process has."""
    try:
        provider = Job.read(RunFolder(path)).config.provider
    except (ForgeError, KeyError, ValueError):
        return False  # the run itself says what is wrong with its record
    return any(name in sys.modules for name in REWRITTEN.get(provider, ()))


def _run(run: RunFolder, stop: Stop, log: EventLog, found: Checkpoint | None) -> None:
    log.phase("loading", "Opening the training stack")
    job = Job.read(run)
    config, plan = job.config, job.plan
    environment.set_visible_gpu(plan.device, config.hardware.gpu_index)
    if releases_memory(config, plan):
        environment.return_freed_memory()
    environment.go_offline_for_local_models(plan.model_path, config.trainer.reward_model)
    provider, method = preload(config.provider, plan.method)
    if job.is_trial_run:
        from modelforge.train.callbacks.system_stats import reset_peak

        reset_peak()
    _require_one_gpu(run, plan)

    def load(head: Head = "causal", path: str | None = None) -> Any:
        stop.check()
        # Another model than the run's, as a reward model is, has no revision that was looked up.
        which = replace(plan, model_path=path, model_revision=None) if path else plan
        text = f"Loading {Path(which.model_path).name}"
        log.phase("loading", text)

        def loading(done: int, total: int) -> None:
            log.phase("loading", text, done=done, total=total)

        loaded = provider.load(which, config, loading, head=head)
        stop.check()
        return loaded

    method.run(WorkerContext(job, load, log, stop, found))


def _failed(run: RunFolder, error: Exception, log: EventLog) -> None:
    traceback.print_exc(file=sys.stderr)
    shutil.rmtree(run.output_staged, ignore_errors=True)
    failure = explain(error)
    with contextlib.suppress(ForgeError):  # a full disk does not even take the bad news
        log.line(f"Failed: {failure.what} {failure.remedy}")
        log.end(FailedEvent(**asdict(failure)))


def _require_one_gpu(run: RunFolder, plan: Plan) -> None:
    """See to it that exactly one GPU is visible when one is to be used."""
    if plan.device != "cuda":
        return
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        remedy = "Check it with `python launch.py doctor`, or choose the device cpu."
        problem = Problem("hardware.device", "No GPU can be used by torch.", remedy)
        raise WorkerError("gpu-missing", problem)
    if count > 1 and RESTARTED not in os.environ:
        # The mask came too late for a stack that had already counted: begin again, unwarmed.
        os.environ[RESTARTED] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "modelforge.train", str(run.path)])


def _require(known: dict[str, str], where: str, name: str) -> None:
    if name not in known:
        problem = Problem(where, f"{name} is not here yet.", f"Choose {' or '.join(known)}.")
        raise WorkerError("not-here-yet", problem)
