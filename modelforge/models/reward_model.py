"""Check the reward model that a run names, before the run starts."""

from __future__ import annotations

from modelforge.config.methods import facts_of
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from modelforge.models.resolve import resolve_model
from modelforge.models.safetensors_index import read_json
from modelforge.paths import Home, expand_user, is_file

SETTING = "trainer.reward_model"
_REMEDY = "Name a sequence classification model with one label, or leave it empty to train one."


def check_reward_model(config: TrainingConfig, home: Home) -> None:
    """Raise ConfigError or NotFoundError unless `trainer.reward_model` can judge completions.

    It must be a sequence classifier with one label, or an adapter of one.
    """
    name = config.trainer.reward_model
    if not facts_of(config).generates or config.trainer.reward != "model" or name is None:
        return
    try:
        what = _what_is_wrong(name, home)
    except (ConfigError, NotFoundError) as error:
        problems = [Problem(SETTING, each.what, each.remedy) for each in error.problems]
        kind = NotFoundError if isinstance(error, NotFoundError) else ConfigError
        raise kind(problems) from error
    if what:
        raise ConfigError(Problem(SETTING, what, _REMEDY))


def _what_is_wrong(name: str, home: Home) -> str:
    folder = expand_user(name)
    if is_file(folder / CONFIG_FILE):
        if not is_file(folder / WEIGHTS_FILE):
            problem = Problem(SETTING, f"{name} has no {WEIGHTS_FILE}.", "Copy the whole folder.")
            raise NotFoundError(problem)
        task = read_json(folder / CONFIG_FILE).get("task_type")
        return "" if task == "SEQ_CLS" else f"{name} is an adapter for {task}, not for SEQ_CLS."
    model = resolve_model(name, home)
    if not model.architecture.endswith("ForSequenceClassification"):
        kind = model.architecture or "a model of unknown architecture"
        return f"{name} is {kind}, not a sequence classifier."
    return "" if model.labels == 1 else f"{name} has {model.labels} labels instead of 1."
