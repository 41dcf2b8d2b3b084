"""Do one run: load provider and strategy, train, and report how the run ended."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from modelforge.config.engines import uses_surogate
from modelforge.config.methods import METHOD_FACTS, Head
from modelforge.config.plan.context import is_native_linux
from modelforge.config.plan.make import Plan, releases_memory
from modelforge.config.providers import PROVIDER_FACTS
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.model import is_hub_kernel
from modelforge.config.visible_gpu import VISIBLE, visible_gpu
from modelforge.errors import ForgeError, Problem
from modelforge.modeling.errors import WorkerError, explain
from modelforge.modeling.hub_kernels import block_hub_kernels
from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import write_json
from modelforge.runs.checkpoints import Checkpoint
from modelforge.runs.event_types import FailedEvent, StartedEvent
from modelforge.runs.events import EventWriter
from modelforge.runs.layout import RunFolder
from modelforge.train import environment, resume
from modelforge.train.event_log import DiskReserve, EventLog
from modelforge.train.job import Job, WorkerContext
from modelforge.train.log_output import log_output
from modelforge.train.ranks import rank
from modelforge.train.stop import Stop, StopRequested, TrialRunFinished


def run_worker(path: Path) -> int:
    """Do the run in `path` and return the exit code; an ending event is always written."""
    run = RunFolder(path)
    environment.configure_process()
    stop = Stop(run.stop)
    stop.listen()
    reserve = DiskReserve(run.path)
    reserve.hold()
    with EventWriter(run.events) as events, contextlib.ExitStack() as outputs:
        log = EventLog(events, make_room=reserve.release)
        events.write(StartedEvent(pid=os.getpid(), birth=psutil.Process().create_time()))
        outputs.enter_context(log_output(run, log))
        _attempt(run, stop, log, lambda: resume.find_resume_point(run, log))
    reserve.release()
    state = log.ended or "failed"
    code = int(state == "failed")
    with contextlib.suppress(ForgeError):
        write_json(run.exit, {"state": state, "code": code, "t": time.time()})
    return code


def run_rank(path: Path) -> int:
    """Be one of the processes of the run in `path`, and return the exit code.

    The first one writes the events and the files of the run, its ending included unless that is
    for the process that started it to find out.
    """
    run, number = RunFolder(path), rank.rank_number()
    rank.end_with_launcher()
    environment.configure_process()
    stop = rank.RankStop(run.stop)
    stop.listen()
    with EventWriter(rank.event_file(run, number)) as events, contextlib.ExitStack() as outputs:
        log = EventLog(events, make_room=DiskReserve(run.path).release)
        if number == 0:
            outputs.enter_context(log_output(run, log))
        else:
            # The first process writes the same lines.
            quiet = outputs.enter_context(Path(os.devnull).open("w"))
            outputs.enter_context(contextlib.redirect_stdout(quiet))
        _attempt(run, stop, log, lambda: checkpoints.newest_valid(run)[0], is_main=number == 0)
    return int(log.ended in (None, FailedEvent.kind))


def _attempt(
    run: RunFolder,
    stop: Stop,
    log: EventLog,
    find: Callable[[], Checkpoint | None],
    *,
    is_main: bool = True,
) -> None:
    """Do the run from the checkpoint that `find` returns, and write how it ended.

    The files of the run are left alone unless this process `is_main`.
    """
    checkpoint = None
    try:
        checkpoint = find()
        _do_run(run, stop, log, checkpoint, is_main=is_main)
    except TrialRunFinished:
        pass  # its events are written, the ending included
    except StopRequested:
        if is_main:
            resume.end_before_training(run, log, checkpoint, stop.mode or "keep")
    except Exception as error:  # noqa: BLE001  # the outermost frame: a crash becomes an event
        if isinstance(stop, rank.RankStop) and rank.is_lost_peer(error):
            # The process that started this one finds out why the other has ended.
            traceback.print_exc(file=sys.stderr)
        else:
            _report_failure(run if is_main else None, error, log)


def preload(provider: str = "huggingface", method: str = "sft") -> tuple[Any, Any]:
    """Import provider and strategy, and return both modules.

    An import may initialize CUDA: that of bitsandbytes asks every visible GPU for its capability.

    Their modules are called like the provider and the method.
    """
    for where, name, known in (
        ("provider", provider, PROVIDER_FACTS),
        ("strategy", method, METHOD_FACTS),
    ):
        if name not in known:
            problem = Problem(where, f"{name} is not supported.", f"Choose {' or '.join(known)}.")
            raise WorkerError("not-here-yet", problem)
    # In this order: a provider may have to be imported before TRL.
    modules = (
        import_module(f"modelforge.modeling.providers.{provider}"),
        import_module(f"modelforge.train.strategies.{method}"),
    )
    # Exclude imported modules from garbage collection (saves 0.3 s).
    gc.freeze()
    return modules


def needs_fresh_process(path: Path) -> bool:
    """Return whether a process that has imported the training stack cannot do the run.

    Its provider must be imported first, or CUDA sees another GPU: it may have been initialized by
    an import, and keeps the GPUs that were visible then.
    """
    try:
        job = Job.read(RunFolder(path))
        patched = PROVIDER_FACTS[job.config.provider].patches
    except (ForgeError, KeyError, ValueError):
        return False  # the run itself reports what is wrong with its record
    if uses_surogate(job.config) or job.plan.ranks > 1:
        return True  # the memory of an imported training stack belongs to the engine
    if any(name in sys.modules for name in patched):
        return True
    if is_hub_kernel(job.plan.attn_implementation):
        return True  # the package that loads it is blocked here
    chosen = visible_gpu(job.config.hardware.gpu_index)[VISIBLE]
    return job.plan.device == "cuda" and os.environ.get(VISIBLE) != chosen


def _limit_downloads(config: TrainingConfig, plan: Plan) -> None:
    """Forbid access to the Hub, and to its kernels, where the run needs none."""
    kernel = plan.attn_implementation if is_hub_kernel(plan.attn_implementation) else None
    # A training from nothing reads a tokenizer at most.
    model = plan.tokenizer_path if config.pretraining.enabled else plan.model_path
    environment.go_offline_for_local_models(model, config.trainer.reward_model, kernel)
    if kernel is None:
        block_hub_kernels()


def _do_run(
    run: RunFolder,
    stop: Stop,
    log: EventLog,
    checkpoint: Checkpoint | None,
    *,
    is_main: bool,
) -> None:
    log.phase("loading", "Importing the training stack")
    job = Job.read(run)
    config, plan = job.config, job.plan
    if uses_surogate(config):
        _run_surogate(WorkerContext(job, _nothing_to_load, log, stop, checkpoint))
        return
    if plan.ranks > 1 and not isinstance(stop, rank.RankStop):
        from modelforge.train.ranks.launch import run_ranks

        run_ranks(job, log, stop)
        return
    _set_up_device(job, is_rank=isinstance(stop, rank.RankStop))
    provider, strategy = preload(config.provider, plan.method)
    if isinstance(stop, rank.RankStop):
        from modelforge.train.ranks.group import join

        stop.group = join(plan)
    if job.is_trial_run:
        from modelforge.train.callbacks.system_stats import reset_peak

        reset_peak()
    _require_gpu(plan)
    load_seconds: list[float] = []
    load = _loader(provider, job, stop, log, load_seconds)
    strategy.run(WorkerContext(job, load, log, stop, checkpoint, load_seconds, is_main))


def _loader(
    provider: Any, job: Job, stop: Stop, log: EventLog, load_seconds: list[float]
) -> Callable[..., Any]:
    """Return the function that loads a model with `provider`; `load_seconds` gets its times."""
    config, plan = job.config, job.plan

    def load(head: Head = "causal", path: str | None = None, *, is_plain: bool = False) -> Any:
        stop.check()
        began = time.monotonic()
        # The resolved revision is that of the run's model, not of a reward model.
        source = _plan_of(plan, path, is_new=config.pretraining.enabled) if path else plan
        if is_plain:
            source = replace(source, quantization="none", device="cpu")
        text = f"Loading {Path(source.model_path).name}"
        log.phase("loading", text)

        def progress(done: int, total: int) -> None:
            log.phase("loading", text, done=done, total=total)

        loaded = provider.load(source, config, progress, head=head)
        load_seconds.append(time.monotonic() - began)
        for code, note in loaded.notes:
            log.note(code, note)
        stop.check()
        return loaded

    return load


def _set_up_device(job: Job, *, is_rank: bool) -> None:
    """Choose the device and its memory, before the training stack is imported."""
    if not is_rank:  # each of several processes was given its GPU
        environment.set_visible_gpu(job.plan.device, job.config.hardware.gpu_index)
    if releases_memory(job.config, job.plan):
        environment.return_freed_memory()
    _limit_downloads(job.config, job.plan)


def _plan_of(plan: Plan, path: str, *, is_new: bool) -> Plan:
    """Return the plan for a model other than that of the run."""
    source = replace(plan, model_path=path, model_revision=None)
    # The start model of a training from nothing has the tokenizer that it borrows.
    return replace(source, tokenizer_path=None) if is_new else source


def _run_surogate(context: WorkerContext) -> None:
    """Do a run with Surogate, whose GPU is not touched by this process."""
    environment.set_visible_gpu("cpu", 0)
    environment.go_offline_for_local_models(context.job.plan.model_path)
    from modelforge.train.engines import surogate

    surogate.run(context)


def _nothing_to_load(*_args: Any) -> Any:
    raise AssertionError("the engine loads the model itself")


def _report_failure(run: RunFolder | None, error: Exception, log: EventLog) -> None:
    traceback.print_exc(file=sys.stderr)
    for folder in (run.output_staged, run.merged_staged, run.stage_staged) if run else ():
        shutil.rmtree(folder, ignore_errors=True)
    failure = explain(error)
    with contextlib.suppress(ForgeError):  # the disk may be too full to write the failure event
        log.end(failure, f"Failed: {failure.what} {failure.remedy}")


def _require_gpu(plan: Plan) -> None:
    """Make sure that the GPU of a CUDA run is usable, and that running out of memory is an error.

    A run may be limited to a share of the GPU's memory. On Windows and in WSL the driver moves what
    does not fit into the computer's memory: a run is then many times slower, without an error to
    recover from.
    """
    if plan.device != "cuda":
        return
    import torch

    if torch.cuda.device_count() == 0:
        remedy = "Check it with `python launch.py doctor`, or choose the device cpu."
        problem = Problem("hardware.device", "PyTorch finds no usable GPU.", remedy)
        raise WorkerError("gpu-missing", problem)
    _adapt_to_gpu(plan)
    fraction = plan.max_vram_fraction
    if not is_native_linux(platform.system(), platform.release()):
        free, total = torch.cuda.mem_get_info()
        fraction = min(fraction, free / total)
    if fraction < 1:
        torch.cuda.set_per_process_memory_fraction(fraction)


def _adapt_to_gpu(plan: Plan) -> None:
    """Do without what this GPU, or this computer, cannot do."""
    import torch

    from modelforge.train.trainer import private

    if not plan.compiles_kernels:
        private.use_torch_log_probs()
    try:
        torch.empty(1, device="cuda")
    except RuntimeError as error:
        # Virtual GPUs of data centres (vGPU) cannot map memory into expandable segments.
        if "operation not supported" not in str(error):
            raise
        private.use_fixed_segments()
