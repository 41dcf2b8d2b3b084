"""Read a request for a fine-tuning job, and translate it to settings of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from modelforge.api.fine_tuning.files import find_file
from modelforge.api.fine_tuning.graders import PARAM as GRADER
from modelforge.api.fine_tuning.graders import Reward, read_grader
from modelforge.config.resolve import Layer, flatten, valid_settings
from modelforge.data.canonical.cells import conversation_in
from modelforge.data.formats.read import read_rows
from modelforge.data.sources.library import StoredDataset
from modelforge.errors import NotFoundError
from modelforge.forge import Forge
from modelforge.services.layers import FormInput, setting_values
from modelforge.serving.requests import ApiError

Method = Literal["supervised", "dpo", "reinforcement"]
METHODS: tuple[Method, ...] = get_args(Method)
STRATEGIES: dict[Method, str] = {"supervised": "sft", "dpo": "dpo", "reinforcement": "rlhf"}
AUTO = (None, "auto")
PLAN_HASH = "plan_hash"
MAX_PAIRS, MAX_KEY, MAX_VALUE, MAX_SUFFIX = 16, 64, 512, 64
# Hyperparameters that every method has.
SHARED = ("n_epochs", "batch_size", "learning_rate_multiplier")
OF_METHOD: dict[Method, tuple[str, ...]] = {
    "supervised": SHARED,
    "dpo": (*SHARED, "beta"),
    "reinforcement": (*SHARED, "eval_interval", "compute_multiplier"),
}
JOB_PREFIX = "ftjob-"
WHOLE = frozenset({"n_epochs", "batch_size", "eval_interval"})
# Hyperparameters without a counterpart → the values that change nothing.
HARMLESS = {"eval_samples": (1,), "reasoning_effort": ("default",)}


@dataclass(frozen=True)
class JobRequest:
    """A request for a job, whose values have the right types.

    `hyperparameters` has only numbers: those that are auto are left to the plan. `settings` are
    settings of ModelForge by name, which the parameters of the API override.
    """

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method = "supervised"
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    grader: Any = None
    suffix: str | None = None
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plan_hash(self) -> str | None:
        """Return the hash of the plan that the client has seen; None if it gives none."""
        return self.metadata.get(PLAN_HASH)


def run_id_of(job_id: str) -> str:
    """Return the id of the run of a job; its id without the prefix is accepted as well."""
    return job_id.removeprefix(JOB_PREFIX)


def read_request(body: Mapping[str, Any]) -> JobRequest:
    """Return the request in a body; raises ApiError for the first wrong value."""
    if body.get("integrations"):
        message = "integrations are not supported. Set logging.report_to in `settings`."
        raise ApiError(message, param="integrations", code="unsupported_value")
    method, chosen = _method(body)
    given = chosen.get("hyperparameters")
    seed = body.get("seed")
    if seed is not None and type(seed) is not int:
        raise _wrong("seed", "It must be a whole number.")
    settings = body.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise _wrong("settings", "It must be an object with settings of ModelForge.")
    return JobRequest(
        model=_text(body, "model", required=True) or "",
        training_file=_text(body, "training_file", required=True) or "",
        validation_file=_text(body, "validation_file"),
        method=method,
        hyperparameters=_hyperparameters(
            method, body.get("hyperparameters") if given is None else given
        ),
        grader=chosen.get("grader"),
        suffix=_text(body, "suffix", longest=MAX_SUFFIX),
        seed=seed,
        metadata=_metadata(body.get("metadata")),
        settings=settings,
    )


def job_layers(forge: Forge, asked: JobRequest) -> list[Layer]:
    """Return the settings of a job above the defaults for this machine, model and strategy.

    Raises ApiError and NotFoundError.
    """
    recipe = dict(asked.settings)
    named = flatten(recipe)
    values: dict[str, Any] = {"task": "text-generation", **_model(forge, asked.model)}
    if asked.method != "supervised" or named.get("strategy") not in ("sft", "qlora"):
        values["strategy"] = STRATEGIES[asked.method]
    training = find_file(forge, asked.training_file)
    reward = _reward(asked, named)
    values |= {"dataset": training.dataset, **(reward.settings if reward else {})}
    if source := _source(training, "training_file", reward):
        values["data.sources"] = [source]
    if asked.validation_file is not None:
        validation = find_file(forge, asked.validation_file)
        source = _source(validation, "validation_file", reward) or {"path": validation.dataset}
        values["data.validation_sources"] = [source]
    if asked.seed is not None:
        values["trainer.seed"] = asked.seed
    if asked.suffix:
        values["logging.run_name"] = asked.suffix
    layers = forge.layers.stack(FormInput(values=values, recipe=recipe)).layers
    if not asked.hyperparameters:
        return layers
    # Without what is wrong in `settings`, which the check of the job names.
    usual = setting_values([Layer("usual", valid_settings(*layers))])
    values |= _numbers(asked, usual)
    return forge.layers.stack(FormInput(values=values, recipe=recipe)).layers


def _method(body: Mapping[str, Any]) -> tuple[Method, Mapping[str, Any]]:
    """Return the method of a body and what it says about it."""
    method = body.get("method")
    if method is None:
        return "supervised", {}
    kind = method.get("type") if isinstance(method, Mapping) else None
    if not isinstance(method, Mapping) or kind not in METHODS:
        raise _wrong("method.type", f"It must be one of {', '.join(METHODS)}.")
    chosen = method.get(kind) or {}
    if not isinstance(chosen, Mapping):
        raise _wrong(f"method.{kind}", "It must be an object.")
    return kind, chosen


def _hyperparameters(method: Method, given: Any) -> dict[str, float]:
    """Return the numbers among the hyperparameters; raises ApiError."""
    where = f"method.{method}.hyperparameters"
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _wrong(where, "It must be an object.")
    numbers = {}
    for name, value in given.items():
        if value in AUTO or value in HARMLESS.get(str(name), ()):
            continue
        if name not in OF_METHOD[method]:
            known = ", ".join(OF_METHOD[method])
            message = f"{name!s:.60} cannot be set. Leave it out; possible are {known}."
            raise ApiError(message, param=f"{where}.{name!s:.60}", code="unsupported_value")
        numbers[str(name)] = _number(f"{where}.{name}", value, whole=name in WHOLE)
    return numbers


def _number(where: str, value: Any, *, whole: bool) -> float:
    types = int if whole else (int, float)
    is_number = isinstance(value, types) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        kind = "a whole number from 1" if whole else "a number above 0"
        raise _wrong(where, f"It must be auto or {kind}.")
    number: float = value
    return number


def _metadata(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    is_valid = isinstance(given, Mapping) and len(given) <= MAX_PAIRS
    if not is_valid or not all(_is_pair(*pair) for pair in given.items()):
        bounds = f"up to {MAX_PAIRS} pairs of texts, keys up to {MAX_KEY} characters and values"
        raise _wrong("metadata", f"It must have {bounds} up to {MAX_VALUE}.")
    return dict(given)


def _is_pair(key: Any, value: Any) -> bool:
    is_text = isinstance(key, str) and isinstance(value, str)
    return is_text and len(key) <= MAX_KEY and len(value) <= MAX_VALUE


def _text(
    body: Mapping[str, Any], name: str, *, required: bool = False, longest: int = 4096
) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise _wrong(name, f"It must be a text of 1 to {longest:,} characters.")
    return value


def _model(forge: Forge, name: str) -> dict[str, Any]:
    """Return the settings of a base model, or of a run whose result is trained further."""
    run_id = run_id_of(name)
    try:
        view, folder = forge.runs.view(run_id), forge.runs.folder(run_id)
    except NotFoundError:
        return {"model_name": name}
    if folder.has_adapter:
        return {"model_name": view.config["model_name"], "adapter.start_from": run_id}
    if folder.has_model:
        return {"model_name": str(folder.output)}
    message = f"The run {run_id} has no model: it is {view.state}. Choose a finished one."
    raise ApiError(message, param="model", code="invalid_value")


def _reward(asked: JobRequest, named: Mapping[str, Any]) -> Reward | None:
    """Return the reward of the grader; None for other methods, and for one in the settings."""
    if asked.method != "reinforcement" or (asked.grader is None and "trainer.reward" in named):
        return None
    if asked.grader is None:
        message = f"{GRADER} is missing. Give one, or set trainer.reward in `settings`."
        raise ApiError(message, param=GRADER, code="missing_required_parameter")
    return read_grader(asked.grader)


def _source(stored: StoredDataset, param: str, reward: Reward | None) -> dict[str, Any] | None:
    """Return how the rows for a reward are read; None where their columns tell it.

    OpenAI's rows have messages that end with a question, and fields with what is expected.
    """
    row: Mapping[str, Any] = next((data for _, data in read_rows(stored.path)), {})
    messages = conversation_in(row.get("messages"))
    if reward is None or (reward.answer is None and (messages is None or _is_answered(messages))):
        return None
    texts = [name for name, value in row.items() if isinstance(value, str) and value.strip()]
    answer = reward.answer if reward.answer is not None else next(iter(texts), None)
    if answer is None or answer not in row:
        names = ", ".join(str(name)[:40] for name in list(row)[:10])
        missing = "an answer beside messages" if answer is None else f"the field {answer[:60]!r}"
        message = f"{stored.name} has rows without {missing}; their fields are {names}."
        raise ApiError(message, param=param, code="invalid_value")
    asked = {"instruction_field": "messages"} if messages is not None else {}
    return {"path": stored.dataset, "type": "instruction", **asked, "output_field": answer}


def _is_answered(messages: Any) -> bool:
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, Mapping) and last.get("role") == "assistant"


def _numbers(asked: JobRequest, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the hyperparameters; `usual` are those of a run without them."""
    given: Mapping[str, float] = asked.hyperparameters
    values: dict[str, Any] = {}
    generations = int(usual["trainer.num_generations"])
    if "n_epochs" in given:
        values["num_train_epochs"] = given["n_epochs"]
    if "learning_rate_multiplier" in given:
        rate = float(usual["learning_rate"]) * given["learning_rate_multiplier"]
        values["learning_rate"] = rate
    if "eval_interval" in given:
        values["eval_steps"] = given["eval_interval"]
    if "beta" in given:
        values["trainer.preference_beta"] = given["beta"]
    if "compute_multiplier" in given:
        generations = max(2, round(generations * given["compute_multiplier"]))
        values["trainer.num_generations"] = generations
    if "batch_size" in given:
        sequences = int(given["batch_size"])
        sequences *= generations if asked.method == "reinforcement" else 1
        micro_batch = math.gcd(sequences, int(usual["per_device_train_batch_size"]))
        values["per_device_train_batch_size"] = micro_batch
        values["gradient_accumulation_steps"] = sequences // micro_batch
    return values


def _wrong(param: str, message: str) -> ApiError:
    return ApiError(f"{param} cannot be used. {message}", param=param, code="invalid_value")
