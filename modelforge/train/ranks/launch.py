"""Start the processes of a run on several GPUs with torchrun, and report how they ended."""

from __future__ import annotations

import os
import shutil
import signal
import sys

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from modelforge.diagnosis.classify import UNEXPECTED, diagnose_exit
from modelforge.runs.event_types import ENDINGS, FailedEvent
from modelforge.runs.events import iter_events, tail_events
from modelforge.runs.layout import RunFolder
from modelforge.train.environment import set_visible_gpu
from modelforge.train.event_log import EventLog
from modelforge.train.job import Job

# Seconds in which the processes save after a signal.
SHUTDOWN_S = 30
RANK_DIED = "rank-died"


def run_ranks(job: Job, log: EventLog) -> None:
    """Train in the processes of the plan; the first one writes the events of the run.

    Each sees one GPU. When one ends with an error the others are ended too.
    """
    run, plan = job.run, job.plan
    shutil.rmtree(run.ranks, ignore_errors=True)
    run.ranks.mkdir()
    set_visible_gpu(plan.device, job.config.hardware.gpu_index, plan.ranks)
    if sys.platform == "linux":
        # Nothing is sent to other computers.
        os.environ.update(dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo"))
    log.phase("loading", f"Starting {plan.ranks} processes")
    codes: dict[int, int] = {}
    try:
        start = elastic_launch(_launch_config(job), sys.executable)
        start("-m", "modelforge.train", str(run.path), "--rank")
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:
        pass  # the processes had the signal too, and time to save
    log.catch_up()
    newest = tail_events(run.events)[-1:]
    if newest and newest[0].kind in ENDINGS:
        log.ended = newest[0].kind
    else:
        failure = find_cause(run, codes)
        log.end(failure, f"Failed: {failure.what} {failure.remedy}")
    shutil.rmtree(run.ranks, ignore_errors=True)


def _launch_config(job: Job) -> LaunchConfig:
    """Return the configuration of torchrun: processes of this computer, which are not restarted."""
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.plan.ranks,
        run_id=job.run.id,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(job.run.ranks)),
        virtual_local_rank=job.plan.device == "cuda",
        shutdown_timeout=SHUTDOWN_S,
    )


def find_cause(run: RunFolder, codes: dict[int, int]) -> FailedEvent:
    """Return why the processes ended: the failure that one reported, else how one ended.

    `codes` are exit codes by rank; a negative one is the number of a signal.
    """
    reported = [
        (record.t, int(path.stem.rpartition("-")[2]), record.event)
        for path in run.ranks.glob("rank-*.jsonl")
        for record in iter_events(path)
        if record.kind == FailedEvent.kind
    ]
    for _t, rank, event in sorted(reported, key=lambda each: each[0]):
        if isinstance(event, FailedEvent):
            what = f"On GPU {rank + 1} of the run: {event.what}"
            return FailedEvent(cause=event.cause, what=what, remedy=event.remedy)
    killed = {rank: code for rank, code in codes.items() if code < 0}
    rank, code = next(iter((killed or codes).items()), (0, 1))
    how = f"by the signal {signal.Signals(-code).name}" if code < 0 else f"with the code {code}"
    what = f"The process of GPU {rank + 1} of the run ended {how}, so the others were ended."
    known = diagnose_exit("", exit_code=code)
    if known.code == UNEXPECTED:
        remedy = "The log has its last lines. Resume the run, on as many GPUs or on one."
        return FailedEvent(cause=RANK_DIED, what=what, remedy=remedy)
    return FailedEvent(cause=known.code, what=f"{what} {known.what}", remedy=known.remedy)
