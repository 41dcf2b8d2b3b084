"""What a run needs on another computer, as files below a home folder there.

    code/KEY/modelforge_app-VERSION-py3-none-any.whl, requirements.txt, pins.txt
    files/KEY/NAME         data files, models and adapters that the run reads
    runs/RUN/              an ordinary run folder: record, events, and what a resume needs

In the record there, paths of this computer begin with `HERE` in place of the home, which is known
there only: `python -m modelforge.launchers.job` puts its own in.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, Problem
from modelforge.launchers.paths_there import HERE, replace_strings
from modelforge.launchers.wheel import Code, build_code
from modelforge.paths import Home, expand_user
from modelforge.runs.atomic_files import disk_error, read_json, write_json
from modelforge.runs.checkpoints import newest_valid
from modelforge.runs.events import last_number, size_of
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.launch import Target

# Parts of a run folder that a run continues from, besides its checkpoints.
KEPT = (
    "came_from", "reward_model", "start_model", "stages", "tokens", "evaluation_losses",
    "row_losses",
)  # fmt: skip
# Settings that name files which a run writes on this computer.
WRITTEN = (("logging", "log_file"), ("logging", "repo"))
MAX_PATH_CHARS = 4096


@dataclass(frozen=True)
class Bundle:
    """A run with all that it needs elsewhere.

    Attributes:
        run: Its folder here.
        code: Our own code, and the versions of what it needs.
        files: Path below the home there → file or folder here, of what the run reads.
        record: The content of config.json there.
    """

    run: RunFolder
    code: Code
    files: dict[str, Path]
    record: dict[str, Any]

    @property
    def run_path(self) -> str:
        """The run folder there, relative to the home."""
        return f"runs/{self.run.id}"

    @property
    def code_path(self) -> str:
        """The folder of the wheel there, relative to the home."""
        return f"code/{self.code.key}"

    def kept(self) -> Iterator[tuple[str, Path]]:
        """Yield what the run continues from: path below the run folder, and file or folder here."""
        for name in KEPT:
            path: Path = getattr(self.run, name)
            if path.exists():
                yield path.name, path
        newest = newest_valid(self.run)[0]
        if newest is None:
            return
        state = read_json(newest.path / "trainer_state.json")
        best = newest.path.parent / f"checkpoint-{state.get('best_global_step')}"
        for path in {newest.path, best} if best.is_dir() else {newest.path}:
            yield f"{path.parent.name}/{path.name}", path

    def write_run(self, folder: Path) -> None:
        """Write record, events and the start of the process record into a folder.

        Call it at the submission, when nothing writes events here any more. Raises RunError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", self.record)
        events = self.run.events
        since = {"after": last_number(events), "from": max(0, size_of(events))}
        write_json(folder / "process.json", since)
        if events.exists():
            try:
                shutil.copy2(events, folder / events.name)
            except OSError as error:
                raise disk_error(error, folder / events.name) from error

    def stage(self, folder: Path) -> None:
        """Write everything into a folder that becomes the home there, for engines that take one.

        Raises RunError.
        """
        self.code.write(folder / self.code_path)
        self.write_run(folder / self.run_path)
        kept = ((f"{self.run_path}/{name}", path) for name, path in self.kept())
        for name, path in (*self.files.items(), *kept):
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, target, dirs_exist_ok=True)
                else:
                    shutil.copy2(path, target)
            except OSError as error:
                raise disk_error(error, target) from error


def make_bundle(run: RunFolder, home: Home, target: Target) -> Bundle:
    """Return what a run needs at a target.

    Raises ConfigError for a file that is gone or too much to send, RunError for a damaged record.
    """
    extras = tuple(filter(None, target.options.get("extras", "").split(",")))
    code = build_code(home.cache / "code", extras)
    record = read_json(run.config)
    for group, name in WRITTEN:
        record.get("config", {}).get(group, {}).pop(name, None)
    files: dict[str, Path] = {}

    def there(text: str) -> str:
        path = _existing(text)
        if path is None:
            return text
        name = _name_there(path)
        files[name] = path
        return f"{HERE}/{name}"

    parts = {
        part: replace_strings(record.get(part), there)
        for part in ("config", "plan", "dataset", "base")
    }
    return Bundle(run, code, files, record | parts)


def _existing(text: str) -> Path | None:
    """Return the file or folder that a value names by its whole path, or None."""
    if not text.startswith(("/", "~")) or len(text) > MAX_PATH_CHARS or "\n" in text:
        return None
    path = expand_user(text)
    try:
        if not path.is_absolute() or not path.exists():
            return None
        path = path.resolve()
    except (OSError, ValueError):
        return None
    if path in (Path(path.anchor), Path.home(), *Path.home().parents):
        what = f"{path} is too much to send to another computer."
        raise ConfigError(Problem("target", what, "Put what the run needs into a folder."))
    return path


def _name_there(path: Path) -> str:
    """Return where a file goes below the home: another one when the file changes."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    stamps = [(str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
    key = hashlib.sha256(json.dumps([os.fspath(path), stamps]).encode()).hexdigest()[:16]
    # A checkpoint is used with the names of its run and of the folder between.
    is_checkpoint = path.parent.name == "checkpoints"
    name = "/".join(path.parts[-3:]) if is_checkpoint else path.name
    return f"files/{key}/{name}"
