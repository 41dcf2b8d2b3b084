"""`hf-jobs:FLAVOR`: Jobs of Hugging Face, with the client of the Hub that is installed here.

Files go through a private bucket that the job has as a folder, one folder for each run. The token
of the Hub is the one that this computer is logged in with; it enters no file and no argument.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import httpx
from huggingface_hub import HfApi, Volume, get_token
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from modelforge.errors import ConfigError, ForgeError, Problem, RunError
from modelforge.hardware.machine import Machine
from modelforge.hardware.nvidia import Gpu
from modelforge.launchers.bundle import Bundle
from modelforge.launchers.far_parts import PART_BYTES, PARTS
from modelforge.launchers.launcher import (
    Condition,
    Progress,
    Report,
    StopMode,
    UnreachableError,
)
from modelforge.launchers.remote_home import NOT_FETCHED
from modelforge.launchers.shell import clean
from modelforge.launchers.wheel import Code
from modelforge.runs.process.launch import Launch, Target

OPTIONS = {
    "bucket": "Bucket for the files, created if needed (modelforge).",
    "extras": "Extras to install, such as quantization.",
    "image": "Image with Python 3.11 to 3.13 (python:3.12).",
    "namespace": "User or organization that is charged.",
    "timeout": "Longest time of a job, as 8h (24h).",
    "token": "Give the job the token of the Hub, for models that need a login: yes or no (no).",
}
BUCKET, IMAGE, TIMEOUT = "modelforge", "python:3.12", "24h"
# Where the bucket is in a job, and the home there, which is given back with the computer.
MOUNT, HOME = "/modelforge", "/root/modelforge"
# Folder of a run in the bucket with what its job writes.
SHARED = "shared"
LABEL = "modelforge"
FLAVOR = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
T = TypeVar("T")
# Content and name of files for a bucket.
Files = list[tuple[str | Path | bytes, str]]
PROGRAMS = ("far.py", "far_engine.py", "far_parts.py")
STAGES = {"SCHEDULING": "waiting", "RUNNING": "running"}
# Gigabytes, as hardware is described, in GiB.
GB = 1e9 / 2**30
# Compute capability of the GPUs, which decides on precisions and kernels.
CAPABILITIES = {
    "T4": (7, 5), "A100": (8, 0), "A10G": (8, 6), "L4": (8, 9), "L40S": (8, 9), "H200": (9, 0),
    "RTX-PRO-6000": (12, 0),
}  # fmt: skip
UNITS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
NOT_ANSWERING = (httpx.HTTPError, OSError, TimeoutError)


def open_target(target: Target) -> HfJobsLauncher:
    """Return the launcher of a target; raises ConfigError for what is no flavor."""
    if not FLAVOR.fullmatch(target.address):
        what = f"{target.address[:60]!r} is not a flavor of hardware."
        raise ConfigError(Problem("address", what, "Write one of `hf jobs hardware`: a10g-small."))
    if target.options.get("token", "no") not in ("yes", "no"):
        what = "The option token is yes or no; the token itself is never stored."
        raise ConfigError(Problem("token", what, "Write token=yes, and run `hf auth login`."))
    return HfJobsLauncher(target, HfApi())


class HfJobsLauncher:
    """Runs as Jobs of Hugging Face. `api` is the client of the Hub."""

    def __init__(self, target: Target, api: HfApi) -> None:
        self._flavor = target.address
        self._options = target.options
        self._api = api
        self._who = ""

    def check(self, code: Code, report: Report) -> Condition:  # noqa: ARG002
        """Return what hinders a run there, and the hardware of the flavor; nothing is started."""
        try:
            report("Asking the Hub")
            self._namespace()
            return Condition([], _machine(self._hardware()))
        except ForgeError as error:
            return Condition(error.problems)

    def prepare(self, bundle: Bundle, report: Report) -> str:
        """Bring everything but the events into the bucket; return the address of the home."""
        self._hardware()
        bucket = self._bucket()
        report(f"Preparing the bucket {bucket}")
        self._call(lambda: self._api.create_bucket(bucket, private=True, exist_ok=True))
        report("Copying code and files into the bucket")
        run = bundle.run.id
        self._delete(f"{run}/runs/")
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            bundle.stage(Path(folder))
            for program in PROGRAMS:
                shutil.copyfile(Path(__file__).with_name(program), Path(folder, program))
            self._upload(Path(folder), run)
        return HOME

    def find(self, launch: Launch) -> str | None:
        """Return the id of the job with this label, also of one that is over."""
        labels = {LABEL: launch.job}
        found = self._call(
            lambda: list(self._api.list_jobs(labels=labels, namespace=self._namespace()))
        )
        return str(found[0].id) if found else None

    def submit(self, bundle: Bundle, launch: Launch) -> str:
        """Bring the events into the bucket and run the job."""
        run = bundle.run.id
        self._delete(f"{run}/{SHARED}/")
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            bundle.write_run(Path(folder))
            self._upload(Path(folder), f"{run}/{bundle.run_path}")
        call = ["train", launch.home, bundle.code.key, "", run, f"{MOUNT}/{run}/{SHARED}"]
        command = ["python", f"{MOUNT}/{run}/far_engine.py", *call]
        token = get_token() if self._options.get("token") == "yes" else None
        job = self._call(
            lambda: self._api.run_job(
                image=self._options.get("image") or IMAGE,
                command=command,
                env={"PYTHONUNBUFFERED": "1"},
                # Sent to the Hub alone, which stores it encrypted.
                secrets={"HF_TOKEN": token} if token else None,
                flavor=self._flavor,
                timeout=self._options.get("timeout") or TIMEOUT,
                labels={LABEL: launch.job},
                volumes=[Volume(type="bucket", source=self._bucket(), mount_path=MOUNT)],
                namespace=self._namespace(),
            )
        )
        return str(job.id)

    def poll(self, launch: Launch, run: str, events_at: int, log_at: int) -> Progress:
        """Return the state of the job and what it has written."""
        # Before the files: what the job writes last is read then.
        job = self._job(launch.id)
        if job is None:
            return Progress("ended", cause="The Hub does not know the job any more.")
        stage, cost = str(getattr(job.status.stage, "value", job.status.stage)), self._cost(job)
        if stage == "SCHEDULING":
            return Progress("waiting", note="It waits for its hardware.", cost=cost)
        events = self._read(run, "events", events_at)
        log = self._read(run, "log", log_at)
        if stage in STAGES:
            return Progress("running", events, log, cost=cost)
        why = clean(job.status.message or "")
        cause = {"CANCELED": "The job was cancelled on the Hub."}.get(stage, why)
        return Progress("ended", events, log, cost=cost, cause=cause)

    def stop(self, launch: Launch, run: str, mode: StopMode, *, kill: bool = False) -> None:
        """Put the stop file into the bucket; cancel a job that waits, or that is to be killed."""
        job = self._job(launch.id)
        if job is None:
            return
        stop: Files = [(mode.encode(), f"{run}/{SHARED}/stop")]
        self._call(lambda: self._api.batch_bucket_files(self._bucket(), add=stop))
        if kill or job.status.stage == "SCHEDULING":
            self._call(lambda: self._api.cancel_job(job_id=launch.id, namespace=self._namespace()))

    def fetch(self, launch: Launch, run: str, into: Path, *, checkpoints: bool) -> None:  # noqa: ARG002
        """Download the run folder from the bucket."""
        prefix = f"{run}/{SHARED}/"
        files: list[tuple[Any, Any]] = []
        for path in self._tree(prefix):
            parts = PurePosixPath(path.removeprefix(prefix)).parts
            if not path.startswith(prefix) or ".." in parts or not parts:
                what = f"{clean(path)} leads out of the run folder."
                raise RunError(Problem("target", what, "Nothing was copied. Look at the bucket."))
            is_left = parts[0] == "checkpoints" and not checkpoints
            if is_left or f"/{parts[0]}" in NOT_FETCHED or any(part[0] == "." for part in parts):
                continue
            target = into.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            files.append((path, target))
        if files:
            self._call(lambda: self._api.download_bucket_files(self._bucket(), files))

    def close(self) -> None:
        """Nothing is open."""

    def _namespace(self) -> str:
        """Return who runs the jobs; raises ConfigError without a login."""
        if not self._who:
            self._who = self._options.get("namespace", "") or str(
                self._call(self._api.whoami)["name"]
            )
        return self._who

    def _bucket(self) -> str:
        return f"{self._namespace()}/{self._options.get('bucket') or BUCKET}"

    def _hardware(self) -> Any:
        """Return the description of the flavor; raises ConfigError for an unknown one."""
        known = self._call(self._api.list_jobs_hardware)
        for each in known:
            if each.name == self._flavor:
                return each
        what = f"{self._flavor!r} is not a flavor of the Hub."
        names = ", ".join(each.name for each in known)
        raise ConfigError(Problem("address", what, f"Choose {names}."))

    def _job(self, number: str) -> Any:
        try:
            return self._call(
                lambda: self._api.inspect_job(job_id=number, namespace=self._namespace())
            )
        except _GoneError:
            return None

    def _cost(self, job: Any) -> str:
        """Return what a job has cost until now: its seconds at the price of its flavor."""
        seconds = job.durations.running_secs if job.durations else None
        if not seconds:
            return ""
        hardware = self._hardware()
        price = hardware.unit_cost_usd / UNITS_S.get(hardware.unit_label, 60.0)
        return f"${seconds * price:,.2f}"

    def _read(self, run: str, kind: str, offset: int) -> bytes:
        """Return what a followed file has after an offset, to the end of its part."""
        name = f"{run}/{SHARED}/{PARTS}/{kind}-{offset // PART_BYTES}"
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            target = Path(folder, "part")
            files: list[tuple[Any, Any]] = [(name, target)]
            self._call(lambda: self._api.download_bucket_files(self._bucket(), files))
            content = target.read_bytes() if target.exists() else b""
        data = content[offset % PART_BYTES :]
        if offset % PART_BYTES + len(data) < PART_BYTES:
            return data
        return data + self._read(run, kind, offset + len(data))

    def _tree(self, prefix: str) -> list[str]:
        def paths() -> Iterator[str]:
            for each in self._api.list_bucket_tree(self._bucket(), prefix, recursive=True):
                if each.type == "file":
                    yield each.path

        try:
            return self._call(lambda: list(paths()))
        except _GoneError:
            return []

    def _upload(self, folder: Path, prefix: str) -> None:
        files: Files = [
            (path, f"{prefix}/{path.relative_to(folder).as_posix()}")
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        self._call(lambda: self._api.batch_bucket_files(self._bucket(), add=files))

    def _delete(self, prefix: str) -> None:
        if old := self._tree(prefix):
            self._call(lambda: self._api.batch_bucket_files(self._bucket(), delete=old))

    def _call(self, action: Callable[[], T]) -> T:
        """Return what the client of the Hub returns; raises its errors as ours."""
        try:
            return action()
        except LocalTokenNotFoundError as error:
            what = "This computer is not logged in to the Hub."
            remedy = "Run `hf auth login`, or set HF_TOKEN where ModelForge is started."
            raise ConfigError(Problem("token", what, remedy)) from error
        except OfflineModeIsEnabled as error:
            what = "HF_HUB_OFFLINE keeps this computer from the Hub."
            remedy = "Unset it where ModelForge is started."
            raise ConfigError(Problem("target", what, remedy)) from error
        except HfHubHTTPError as error:
            raise _refusal(error) from error
        except NOT_ANSWERING as error:
            what = (
                f"The Hub does not answer: {clean(str(error)).rstrip('.') or type(error).__name__}."
            )
            raise UnreachableError(Problem("target", what, "Check the network.")) from error


class _GoneError(ConfigError):
    """What was asked for does not exist on the Hub."""


def _refusal(error: HfHubHTTPError) -> ForgeError:
    status = error.response.status_code if error.response is not None else 0
    text = clean(error.server_message or str(error))
    if status in (401, 403):
        what = f"The Hub refuses the access ({status}): {text}"
        remedy = "Run `hf auth login` with a token that may run jobs and write to buckets."
        return ConfigError(Problem("token", what, remedy))
    if status == 402:  # payment required
        what = f"The Hub asks for a payment: {text}"
        return ConfigError(
            Problem("target", what, "Add credit at huggingface.co/settings/billing.")
        )
    if status == 404:  # not found
        return _GoneError(Problem("target", f"The Hub does not find it: {text}", "Look there."))
    if status >= 500 or status == 429:  # too many requests
        what = f"The Hub does not answer ({status})."
        return UnreachableError(Problem("target", what, "Wait for it."))
    return ConfigError(Problem("target", f"The Hub refuses: {text} ({status}).", "Correct it."))


def _machine(hardware: Any) -> Machine:
    """Return a flavor as the hardware that runs are planned for."""
    accelerator = hardware.accelerator
    gpus = []
    if accelerator is not None and accelerator.type == "gpu":
        count = int(_number(accelerator.quantity)) or 1
        each = _number(accelerator.vram) * GB / count
        gpus = [_gpu(number, accelerator.model, each) for number in range(count)]
    memory, disk = _number(hardware.ram) * GB, _number(hardware.ephemeral_storage) * GB
    return Machine(
        system="Linux",
        python="3.12",
        cpu=hardware.cpu,
        cores=int(_number(hardware.cpu)) or None,
        ram_total_gib=memory,
        ram_free_gib=memory * 0.95,
        disk_free_gib=disk * 0.9,
        disk_total_gib=disk,
        gpus=gpus,
        gpu_note="" if gpus else "The flavor has no GPU.",
        apple_gpu=False,
    )


def _gpu(number: int, model: str, gib: float) -> Gpu:
    capability = CAPABILITIES.get(model.upper().replace(" ", "-"))
    return Gpu(
        index=number,
        name=model,
        total_gib=gib,
        free_gib=gib * 0.97,
        compute_capability=capability,
    )


def _number(text: str) -> float:
    found = re.search(r"\d+(?:\.\d+)?", str(text))
    return float(found[0]) if found else 0.0
