"""Start the processes of a run on several GPUs with torchrun, and report how they ended."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from modelforge.diagnosis.classify import UNEXPECTED, diagnose_exit
from modelforge.modeling.errors import WorkerError, first_line
from modelforge.runs.event_types import ENDINGS, FailedEvent
from modelforge.runs.events import iter_events, tail_events
from modelforge.runs.layout import RunFolder
from modelforge.train import environment
from modelforge.train.event_log import EventLog
from modelforge.train.job import Job
from modelforge.train.ranks.nodes import Nodes, node_lost
from modelforge.train.stop import Stop

# Seconds in which the processes save after a signal.
SHUTDOWN_S = 30
# Seconds in which the nodes of a run, which are all there, reach each other.
CONNECT_S = 300
RANK_DIED = "rank-died"


def run_ranks(job: Job, log: EventLog, stop: Stop) -> None:
    """Train in the processes of the plan; the first one writes the events of the run.

    Each sees one GPU. When one ends with an error the others are ended too. On several nodes this
    is the first one. Raises StopRequested while it waits for the others.
    """
    run, nodes = job.run, Nodes.read()
    shutil.rmtree(run.ranks, ignore_errors=True)
    nodes.open(run)
    try:
        if nodes.count > 1:
            log.phase("loading", f"Waiting for the other {nodes.count - 1} of {nodes.count} nodes")
        nodes.wait_for_others(run, stop.check)
        log.phase("loading", f"Starting {job.plan.ranks} processes")
        codes = _train(job, nodes)
        log.catch_up()
        newest = tail_events(run.events)[-1:]
        if newest and newest[0].kind in ENDINGS:
            log.ended = newest[0].kind
            return
        failure = _find_cause_on(nodes, run, codes)
        log.end(failure, f"Failed: {failure.what} {failure.remedy}")
    except WorkerError as error:
        lost = error.problems[0]
        failure = FailedEvent(cause=error.cause, what=lost.sentence, remedy=lost.remedy)
        log.end(failure, f"Failed: {failure.what} {failure.remedy}")
    finally:
        shutil.rmtree(run.ranks, ignore_errors=True)


def run_node(path: Path) -> int:
    """Do the part of a node beside the first one in the run in `path`; return the exit code."""
    run, nodes = RunFolder(path), Nodes.read()
    environment.configure_process()
    nodes.join(run)
    codes = _train(Job.read(run), nodes)
    nodes.end(run, codes)
    return int(bool(codes))


def _train(job: Job, nodes: Nodes) -> dict[int, int]:
    """Train in the processes of this node; return the exit codes of those that failed, by rank."""
    count = job.plan.ranks // nodes.count
    # What starts several nodes gives each its GPUs.
    index = job.config.hardware.gpu_index if nodes.count == 1 else 0
    environment.set_visible_gpu(job.plan.device, index, count)
    nodes.choose_network()
    try:
        start = elastic_launch(_launch_config(job, nodes, count), sys.executable)
        start("-m", "modelforge.train", str(job.run.path), "--rank")
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:
        pass  # the processes had the signal too, and time to save
    except DistError as error:
        if nodes.count == 1:
            raise
        what = f"The nodes do not reach {nodes.endpoint}: {first_line(error)}"
        remedy = "Allow the nodes of the cluster to connect to each other on all ports."
        raise node_lost(what, remedy) from error
    return {}


def _launch_config(job: Job, nodes: Nodes, count: int) -> LaunchConfig:
    """Return the configuration of torchrun: `count` processes here, which are not restarted."""
    is_alone = nodes.count == 1
    return LaunchConfig(
        min_nodes=nodes.count,
        max_nodes=nodes.count,
        nproc_per_node=count,
        run_id=job.run.id,
        # With static, the first rank is on the first node.
        rdzv_backend="c10d" if is_alone else "static",
        rdzv_endpoint=nodes.endpoint,
        rdzv_configs={"rank": nodes.number, "timeout": CONNECT_S},
        local_addr="127.0.0.1" if is_alone else None,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(
            log_dir=str(nodes.logs(job.run)), redirects=Std.ALL if nodes.number else Std.NONE
        ),
        virtual_local_rank=job.plan.device == "cuda",
        shutdown_timeout=SHUTDOWN_S,
    )


def _find_cause_on(nodes: Nodes, run: RunFolder, codes: dict[int, int]) -> FailedEvent:
    """Return why the processes of several nodes ended; raises WorkerError for a lost node."""
    is_killed = any(code < 0 for code in codes.values())
    try:
        others = nodes.exit_codes(run, lambda: is_killed or find_report(run) is not None)
    finally:
        nodes.show_logs(run)
    return find_cause(run, others | codes)


def find_cause(run: RunFolder, codes: dict[int, int]) -> FailedEvent:
    """Return why the processes ended: the failure that one reported, else how one ended.

    `codes` are exit codes by rank; a negative one is the number of a signal.
    """
    if reported := find_report(run):
        return reported
    killed = {rank: code for rank, code in codes.items() if code < 0}
    rank, code = next(iter((killed or codes).items()), (0, 1))
    how = f"by the signal {signal.Signals(-code).name}" if code < 0 else f"with the code {code}"
    what = f"The process of GPU {rank + 1} of the run ended {how}, so the others were ended."
    known = diagnose_exit("", exit_code=code)
    if known.code == UNEXPECTED:
        remedy = "The log has its last lines. Resume the run, on as many GPUs or on one."
        return FailedEvent(cause=RANK_DIED, what=what, remedy=remedy)
    return FailedEvent(cause=known.code, what=f"{what} {known.what}", remedy=known.remedy)


def find_report(run: RunFolder) -> FailedEvent | None:
    """Return the first failure that a process has reported, with its GPU; None without one."""
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
    return None
