"""Find the checkpoint that a new run resumes from, and check that its weights fit the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.run_length import NEWEST
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json
from modelforge.runs.checkpoints import Checkpoint, list_checkpoints, read_checkpoint, verify
from modelforge.runs.layout import RunFolder

SETTING = "trainer.resume_from_checkpoint"
# Settings that the weights and the optimizer of a checkpoint belong to.
_SAME = (
    *("task", "strategy", "lora_r", "optim", "adapter.enabled", "adapter.target_modules"),
    *("adapter.modules_to_save", "adapter.use_dora", "adapter.use_rslora"),
)
# Those that the model of a training from nothing is made by, and its windows of text.
_SAME_FROM_NOTHING = (
    *("max_seq_length", "pretraining.arch", "pretraining.depth", "pretraining.aspect_ratio"),
    *("pretraining.head_dim", "pretraining.window_pattern", "pretraining.vocab_size"),
    *("pretraining.tokenizer", "pretraining.d_model", "pretraining.n_heads"),
    *("pretraining.n_kv_heads", "pretraining.d_ff", "pretraining.n_layers"),
    *("pretraining.rope_theta", "pretraining.tie_embeddings"),
)
REMEDY = "Name a run or a step of it: RUN or RUN:STEP. `modelforge runs show RUN` lists its steps."


def find_resume_source(config: TrainingConfig, home: Home) -> Path | None:
    """Return the folder of the checkpoint that the setting names; None without one.

    It names a run (`RUN`, its newest checkpoint), a step of it (`RUN:STEP`), a folder of a
    checkpoint, or with `newest` or a step alone the newest run here with the same model, data and
    strategy. Only `newest` may find nothing.

    Raises NotFoundError if there is no such checkpoint, ConfigError if its settings differ.
    """
    value = (config.trainer.resume_from_checkpoint or "").strip()
    if not value:
        return None
    name, _, step = value.rpartition(":") if ":" in value else (value, "", "")
    if value == NEWEST or value.isdecimal():
        found = _of_similar_run(config, home, None if value == NEWEST else int(value))
        if found is None and value == NEWEST:
            return None
    elif (folder := _run(home, name)) is not None:
        found = _of_run(folder, int(step) if step.isdecimal() else None) if _is_step(step) else None
    else:
        found = read_checkpoint(Path(value).expanduser())
    if found is None:
        raise NotFoundError(Problem(SETTING, f"{value[:120]!r} has no intact checkpoint.", REMEDY))
    problems = list(_differences(config, found))
    if problems:
        raise ConfigError(problems)
    return found.path.resolve()


def _is_step(step: str) -> bool:
    return not step or step.isdecimal()


def _run(home: Home, name: str) -> RunFolder | None:
    # A run id is not a path, so it cannot lead outside of the home.
    if not name or "/" in name or "\\" in name or ".." in name:
        return None
    folder = RunFolder(home.runs / name)
    return folder if folder.path.is_dir() else None


def _of_run(folder: RunFolder, step: int | None) -> Checkpoint | None:
    """Return the newest intact checkpoint of a run, or that of a step; compares sizes only."""
    for checkpoint in list_checkpoints(folder):
        is_wanted = step is None or checkpoint.step == step
        if is_wanted and verify(checkpoint.path, hashes=False) is None:
            return checkpoint
    return None


def _of_similar_run(config: TrainingConfig, home: Home, step: int | None) -> Checkpoint | None:
    """Return the checkpoint of the newest run with the same model, data and strategy."""
    wanted = {name: _value(config, name) for name in ("model_name", "strategy")}
    wanted["sources"] = [source.path for source in config.sources()]
    for path in sorted(home.runs.glob("*"), reverse=True):
        folder = RunFolder(path)
        stored = _config_of(path)
        if stored is None:
            continue
        values = {name: _value(stored, name) for name in ("model_name", "strategy")}
        values["sources"] = [source.path for source in stored.sources()]
        if values == wanted and (found := _of_run(folder, step)) is not None:
            return found
    return None


def _config_of(run: Path) -> TrainingConfig | None:
    """Return the settings of a run; None where they cannot be read, and for a trial run."""
    record = find_json(RunFolder(run).config) or {}
    if record.get("trial_run") or not isinstance(record.get("config"), dict):
        return None
    try:
        return TrainingConfig.from_record(record["config"])
    except ValueError:
        return None


def _differences(config: TrainingConfig, checkpoint: Checkpoint) -> Iterator[Problem]:
    if checkpoint.stage is not None:
        what = "The checkpoint is of one stage of a run, which only that run can use."
        yield Problem(SETTING, what, "Resume the run itself: `modelforge runs resume RUN`.")
        return
    stored = _config_of(checkpoint.path.parent.parent)
    if stored is None:
        return
    if Path(stored.model_name).name != Path(config.model_name).name:
        what = f"The checkpoint is of the model {stored.model_name}."
        yield Problem("model_name", what, "Choose that model, or leave the checkpoint empty.")
    is_new = stored.pretraining.enabled or config.pretraining.enabled
    names = ("pretraining.enabled", *_SAME_FROM_NOTHING) if is_new else ()
    for name in (*_SAME, *names):
        theirs = _value(stored, name)
        if theirs != _value(config, name):
            text = str(theirs).lower() if isinstance(theirs, bool) else str(theirs)
            yield Problem(name, f"The run of the checkpoint has {text}.", f"Set it to {text}.")


def _value(config: TrainingConfig, name: str) -> object:
    group, _, field = name.rpartition(".")
    return getattr(getattr(config, group) if group else config, field)
