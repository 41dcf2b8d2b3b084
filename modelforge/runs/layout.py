"""The files of a run folder, who writes each, and how a file is written whole or not at all.

config, preflight, environment   the store, once
came_from                        the desk that continues a run, once
about                            the store, whenever somebody names or tags the run
process                          the supervisor
events, exit, checkpoints, reward_model, trackers, output  the worker
log                              the operating system: what the worker prints
stop                             the supervisor; its existence is the request
diagnosis                        the desk of aid: what fades, such as an exit code, is kept there
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.errors import Problem, RunError

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
# The last file to come into a reward model's folder.
REWARD_MODEL_DONE = "complete.json"
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; the folder's name is its id."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def config(self) -> Path:
        """What was asked: config, origins, plan, dataset, name."""
        return self.path / "config.json"

    @property
    def preflight(self) -> Path:
        """What preflight said before the start."""
        return self.path / "preflight.json"

    @property
    def environment(self) -> Path:
        """Versions of Python and of the packages that matter."""
        return self.path / "environment.json"

    @property
    def about(self) -> Path:
        """What people say of it: name, tags and a note. Absent while nobody has."""
        return self.path / "about.json"

    @property
    def process(self) -> Path:
        """Which process works on the run: pid and birth."""
        return self.path / "process.json"

    @property
    def came_from(self) -> Path:
        """The run and the update that a continued run goes on from; others have none."""
        return self.path / "came_from.json"

    @property
    def events(self) -> Path:
        """What the worker says, one line an event."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the worker prints."""
        return self.path / "worker.log"

    @property
    def stop(self) -> Path:
        """The request to stop: `keep` or `discard`."""
        return self.path / "stop"

    @property
    def exit(self) -> Path:
        """How the worker ended, its last act."""
        return self.path / "exit.json"

    @property
    def diagnosis(self) -> Path:
        """Why the run was lost, as the first server found that looked."""
        return self.path / "diagnosis.json"

    @property
    def checkpoints(self) -> Path:
        """States to go on from."""
        return self.path / "checkpoints"

    @property
    def reward_model(self) -> Path:
        """What a run's first stage has learned to judge answers with; there whole or not at all."""
        return self.path / "reward_model"

    @property
    def trackers(self) -> Path:
        """What trackers keep of the run, one folder each."""
        return self.path / "trackers"

    @property
    def output(self) -> Path:
        """The adapter or the whole model, with its tokenizer."""
        return self.path / "output"

    @property
    def output_staged(self) -> Path:
        """Where the output is made before it is put in place."""
        return self.path / ".output-staged"

    @property
    def has_adapter(self) -> bool:
        """Whether the run has left an adapter to talk to."""
        return (self.output / "adapter_config.json").is_file()

    @property
    def has_model(self) -> bool:
        """Whether the run has left a whole model to talk to."""
        return (self.output / "config.json").is_file() and any(self.output.glob("*.safetensors"))

    @property
    def has_reward_model(self) -> bool:
        """Whether the run's own reward model has learned all it was to learn."""
        return find_json(self.reward_model / REWARD_MODEL_DONE) is not None

    @property
    def has_result(self) -> bool:
        """Whether the run has left anything to talk to and to take away."""
        return self.has_adapter or self.has_model


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write `data` to `path` in one step: readers see the old file or the whole new one.

    Raises RunError with a remedy when the disk is full or writing is not allowed.
    """
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, as `write_json` does."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in `path`; raises RunError when it is absent or unreadable."""
    found = find_json(path)
    if found is None:
        raise RunError(
            Problem(
                f"{path.parent.name}/{path.name}",
                "The file is missing or cannot be read.",
                "The run cannot be shown without it. Restore the file, or delete the run.",
            )
        )
    return found


def find_json(path: Path) -> dict[str, Any] | None:
    """Return the object in `path`, or None when there is none that can be read."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def disk_error(error: OSError, path: Path) -> RunError:
    """Return what a failed write to `path` means to a person, and what helps."""
    where = path.name
    if error.errno in FULL:
        return RunError(
            Problem(
                where,
                f"There is no room to write it: the disk of {path.parent} is full.",
                "Free some space there, or choose another home with --home or MODELFORGE_HOME.",
            )
        )
    if error.errno in FORBIDDEN:
        return RunError(
            Problem(
                where,
                f"Writing is not allowed in {path.parent}.",
                "Give yourself write permission there, or choose another home with --home.",
            )
        )
    reason = error.strerror or type(error).__name__
    return RunError(
        Problem(
            where,
            f"It cannot be written in {path.parent}: {reason}.",
            "Check that folder, or choose another home with --home or MODELFORGE_HOME.",
        )
    )
