"""Settings of a recipe or a run as files of other systems, and the rows that they read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.config.exporters import nanochat, script
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Exported
from modelforge.config.exporters.write import SCRIPT, export_settings
from modelforge.config.plan.make import Plan
from modelforge.config.profiles import load_profiles
from modelforge.config.resolve import Layer, resolve
from modelforge.config.rules.data import HUB_PREFIX, hub_name
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import Canonical
from modelforge.data.columns.detect import SAMPLE_ROWS
from modelforge.data.sources.load import dataset_record, iterate_rows, load_sources
from modelforge.data.sources.locate import find_source_files
from modelforge.data.sources.remote import remote_path
from modelforge.errors import ConfigError, ForgeError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, read_json, write_json, write_text
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import child_environment
from modelforge.services.exports.zip_stream import zip_chunks
from modelforge.services.preflight import PreflightService

COMMAND = (sys.executable, "-m", "modelforge.train.tools.prepare_data")
# The type of rows, and the setting of each column, by the kind of the rows.
_PAIR = {"prompt": "instruction_field", "answer": "output_field", "input": "input_field"}
COLUMNS: dict[str, tuple[str, dict[str, str]]] = {
    "text": ("text", {"text": "text_field"}),
    "pair": ("instruction", _PAIR),
    "instruction": ("instruction", {**_PAIR, "instruction": "instruction_field"}),
    "summary": ("instruction", {"document": "instruction_field", "summary": "output_field"}),
    "messages": (
        "conversation",
        {"messages": "messages_field", "system": "system_field", "tools": "tools_field"},
    ),
    "preference": (
        "preference",
        {"prompt": "prompt_field", "chosen": "chosen_field", "rejected": "rejected_field"},
    ),
}
# Rows of pairs have the form of TRL, which the other systems do not read.
PAIRS = "trl"


@dataclass(frozen=True)
class ExportSource:
    """What is exported: settings, and for a run or a checked recipe its plan and data.

    Attributes:
        record: `config`, `plan` and `dataset` as in the record of a run; empty without a plan.
    """

    config: TrainingConfig
    record: dict[str, Any]

    @property
    def plan(self) -> Plan | None:
        """The plan, if there is one."""
        if not self.record:
            return None
        return Plan.from_dict(self.record["plan"], self.record["config"])


class SettingsExportService:
    """Write settings for other systems; nothing is stored in the home.

    `command` is the process that prepares rows, which tests replace.
    """

    def __init__(
        self,
        home: Home,
        preflight: PreflightService,
        find_run: Callable[[str], RunFolder],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._home = home
        self._preflight = preflight
        self._find_run = find_run
        self._command = tuple(command)

    def of_run(self, run_id: str) -> ExportSource:
        """Return what a run has trained; raises NotFoundError."""
        record = read_json(self._find_run(run_id).config)
        return ExportSource(TrainingConfig.from_record(record["config"]), record)

    def of_settings(self, *layers: Layer, system: str) -> ExportSource:
        """Return the settings of these layers; a script needs their model and data too.

        Raises ForgeError with all problems.
        """
        if system != SCRIPT:
            resolved = resolve(*layers, profiles=load_profiles(self._home.profiles))
            return ExportSource(resolved.config, {})
        resolved, plan, _report, data, _facts = self._preflight.check(*layers).require()
        record = {
            "config": resolved.config.explicit_values(),
            "plan": plan.as_dict(),
            "dataset": data.as_record(),
        }
        return ExportSource(resolved.config, record)

    def export(self, source: ExportSource, system: str, data: str = "") -> Exported:
        """Return the file and the report; `data` is a file of rows that it shall name.

        Raises ConfigError for an unknown system, or a method that it does not train.
        """
        if system == SCRIPT:
            return export_settings(Facts(source.config, source.plan), system)
        config = source.config if data else self._with_columns(source.config)
        # A plan is that of this computer; other systems run on others.
        return export_settings(Facts(config, None, dict(self._places(config)), data), system)

    def write(
        self, source: ExportSource, system: str, out: Path, *, with_data: bool = False
    ) -> tuple[Exported, list[Path]]:
        """Write the file `out` and what it reads beside it; return the export and all files.

        A script always has its rows beside it. Raises ConfigError if a file exists, and RunError
        if it cannot be written.
        """
        if system == SCRIPT:
            return self._write_script(source, out)
        if with_data and system == nanochat.SYSTEM.name:
            what = "nanochat reads texts from Parquet files in its own folder."
            raise ConfigError(Problem("--data", what, "Leave --data out."))
        data = f"{out.stem}_rows.jsonl" if with_data else ""
        exported = self.export(source, system, data)
        texts = {out: exported.text, **{out.parent / name: t for name, t in exported.files.items()}}
        _require_new([*texts, *([out.parent / data] if data else [])])
        if data:
            self._write_rows(source.config, system, out.parent / data)
        for path, text in texts.items():
            write_text(path, text)
        return exported, [*texts, *([out.parent / data] if data else [])]

    def archive(
        self, source: ExportSource, system: str, *, with_data: bool = False
    ) -> tuple[str, Iterator[bytes]]:
        """Return the name and the chunks of a zip with all that `write` writes.

        Raises what `write` raises, before the first chunk.
        """
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelforge-")))
            out = folder / self.export(source, system).file_name
            self.write(source, system, out, with_data=with_data)
            # From here on the chunks remove the folder.
            return f"{out.stem}.zip", _chunks(folder, out.stem, stack.pop_all())

    def _write_script(self, source: ExportSource, out: Path) -> tuple[Exported, list[Path]]:
        _require_new([out])
        self.export(source, SCRIPT)
        prepared = self._prepare(source.record, out)
        config = source.config
        if not prepared["eval_rows"]:
            # Every evaluation row was unusable.
            config = config.with_changes({"eval_split": 0.0, "data.validation_sources": []})
        facts = Facts(config, source.plan)
        exported = script.write(facts, out.name, prepared["end_token"])
        if other := prepared["other_tokens"]:
            exported = replace(exported, report=(*exported.report, script.other_tokens(other)))
        write_text(out, exported.text)
        return exported, [out, *(out.parent / name for name in prepared["files"])]

    def _prepare(self, record: dict[str, Any], out: Path) -> dict[str, Any]:
        """Let a process with the training stack write the rows; return what it has written."""
        with tempfile.TemporaryDirectory(prefix="modelforge-") as folder:
            path = Path(folder) / "record.json"
            write_json(path, {name: record[name] for name in ("config", "plan", "dataset")})
            done = subprocess.run(
                [*self._command, str(path), str(out.resolve())],
                env=child_environment(self._home),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        try:
            answer: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            answer = {}
        if done.returncode or "files" not in answer:
            what = str(answer.get("what") or "The process that prepares the rows has ended.")
            remedy = str(answer.get("remedy") or "Run `python launch.py doctor`.")
            raise RunError(Problem("rows", what, remedy))
        return answer

    def _with_columns(self, config: TrainingConfig) -> TrainingConfig:
        """Return the config with the columns of its sources, which other systems do not detect.

        Sources that cannot be read stay as they are.
        """
        changes = {"data.sources": [self._explicit(source) for source in config.sources()]}
        validation = config.data.validation_sources
        changes["data.validation_sources"] = [self._explicit(source) for source in validation]
        return config.with_changes(changes)

    def _explicit(self, source: Source) -> Source:
        try:
            (loaded,) = load_sources([source], self._home, SAMPLE_ROWS)
        except ForgeError:
            return source
        kind, fields = loaded.mapping.kind, loaded.mapping.fields
        if kind not in COLUMNS:
            return source
        row_type, settings = COLUMNS[kind]
        found = {name: fields[part] for part, name in settings.items() if part in fields}
        return source.model_copy(update={"type": row_type, **found})

    def _places(self, config: TrainingConfig) -> Iterator[tuple[str, str]]:
        """Yield each path of a source with the path or name that other systems find it by."""
        for source in (*config.sources(), *config.data.validation_sources):
            yield source.path, self._place(source)

    def _place(self, source: Source) -> str:
        name = hub_name(source.path)
        try:
            files = find_source_files(source, self._home)
        except ForgeError:
            return (name or source.path).removeprefix(HUB_PREFIX)
        if remote := remote_path(source.path):
            return str(remote.copy_in(self._home))
        if source.path.startswith(HUB_PREFIX) or files[0].parent == self._home.datasets:
            return (name or source.path).removeprefix(HUB_PREFIX)
        return str(files[0] if len(files) == 1 else Path(source.path).expanduser().resolve())

    def _write_rows(self, config: TrainingConfig, system: str, path: Path) -> None:
        """Write the rows of all sources as JSON Lines, in the form that most systems read."""
        loaded = self._preflight.load_sources(config.sources())
        record = dataset_record(loaded)

        def rows() -> Iterator[Canonical]:
            return (row for _, row in iterate_rows(record, config.trainer.seed))

        first = next(rows(), {})
        if "chosen" in first and system != PAIRS:
            what = f"Pairs are written in the form of TRL, which {system} does not read."
            raise ConfigError(Problem("--data", what, "Leave --data out, or export to trl."))
        splits = system == PAIRS and all(map(_has_one_answer, rows()))
        try:
            with path.open("x", encoding="utf-8") as file:
                for row in _written(rows(), splits=splits):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise disk_error(error, path) from error


def _chunks(folder: Path, inside: str, cleanup: ExitStack) -> Iterator[bytes]:
    with cleanup:
        yield from zip_chunks(folder, inside)


def _has_one_answer(row: Canonical) -> bool:
    """Return whether a conversation has one answer, at its end."""
    roles = [message["role"] for message in row.get("messages", [])]
    return roles.count("assistant") == 1 and roles[-1] == "assistant"


def _written(rows: Iterable[Canonical], *, splits: bool) -> Iterator[Canonical]:
    for row in rows:
        if not splits:
            yield row
            continue
        more = {"tools": row["tools"]} if "tools" in row else {}
        yield {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], **more}


def _require_new(paths: Sequence[Path]) -> None:
    problems = [
        Problem(str(path), "The file exists.", "Choose another name, or delete the file.")
        for path in paths
        if path.exists()
    ]
    if problems:
        raise ConfigError(problems)
