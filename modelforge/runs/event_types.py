"""The events of a run: one typed class per kind, with the type, unit and meaning of every field.

A worker writes these to events.jsonl, one JSON line per event (`modelforge.runs.events`). The page
docs/events.md and the REST schema are generated from this module. A field without a default is in
every event of its kind; of the others, an unknown value is written as null, or left out where the
field says so. Fields and kinds are only ever added; what was renamed is in `ALIASES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, ClassVar

import modelforge.runs.progress.measured_events  # noqa: F401  (enters its kinds)
from modelforge.runs.event_fields import KINDS, Event, Info, StageEvent, field_specs


@dataclass(frozen=True, kw_only=True)
class StartedEvent(Event):
    """A worker process began to work on the run. A run that is resumed has several."""

    kind: ClassVar[str] = "started"
    pid: Annotated[int, Info("Process id of the worker.")]
    birth: Annotated[float, Info("Creation time of the process.", "Unix s")]


@dataclass(frozen=True, kw_only=True)
class ResumedEvent(Event):
    """The worker continues from a checkpoint; what was measured after it is obsolete."""

    kind: ClassVar[str] = "resumed"
    step: Annotated[int, Info("Step of the checkpoint; 0 without one.")]
    stage: Annotated[int | None, Info("Stage, in runs with stages.")] = None
    checkpoint: Annotated[str | None, Info("Its name; null: training starts over.")] = None
    damaged: Annotated[list[dict[str, str]], Info("`name`, `why`.")] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PhaseEvent(Event):
    """The worker entered a phase or made progress in it, at most four times per second.

    Phases: loading, tokenizing, training, evaluating, sampling, scoring, saving, merging, paused,
    core, trial_run.
    """

    kind: ClassVar[str] = "phase"
    name: Annotated[str, Info("Name of the phase.")]
    text: Annotated[str, Info("The phase in words.")] = ""
    done: Annotated[int | None, Info("Finished units of work.", omitted=True)] = None
    total: Annotated[int | None, Info("All units of work.", omitted=True)] = None


@dataclass(frozen=True, kw_only=True)
class PlanEvent(Event):
    """Training is about to begin: the values in effect once data and model are loaded."""

    kind: ClassVar[str] = "plan"
    total_steps: Annotated[int, Info("Optimizer steps of this stage.")]
    epochs: Annotated[float | None, Info("Passes over the training rows.")] = None
    trainable_parameters: Annotated[int | None, Info("Trainable parameters.")] = None
    total_parameters: Annotated[int | None, Info("All parameters of the model.")] = None
    max_length: Annotated[int | None, Info("Maximum sequence length.", "tokens")] = None
    device: Annotated[str | None, Info("`cpu`, `cuda` or `mps`.")] = None
    precision: Annotated[str | None, Info("`bf16`, `fp16` or `fp32`.")] = None
    quantization: Annotated[str | None, Info("Storage format of the base weights.")] = None
    method: Annotated[str | None, Info("Training method, such as `sft` or `dpo`.")] = None
    train_rows: Annotated[int | None, Info("Rows of the training split.")] = None
    eval_rows: Annotated[int | None, Info("Rows of the evaluation split.")] = None
    trained_tokens: Annotated[int | None, Info("Labels of one epoch.", "tokens", True)] = None
    all_tokens: Annotated[int | None, Info("All tokens of one epoch.", "tokens")] = None
    truncated_rows: Annotated[int | None, Info("Rows that were truncated.")] = None
    flops_per_token: Annotated[float | None, Info("FLOPs of a token.", "FLOPs", True)] = None
    peak_flops: Annotated[float | None, Info("Peak of the GPU.", "FLOPs/s", True)] = None
    bytes_per_token: Annotated[float | None, Info("Mean of the text.", "bytes", True)] = None
    ranks: Annotated[int | None, Info("GPUs that train together.", omitted=True)] = None
    sharding: Annotated[str | None, Info("What they divide.", omitted=True)] = None
    rank_parameters: Annotated[int | None, Info("Parameters on each GPU.", omitted=True)] = None
    prompts_per_update: Annotated[int | None, Info("Prompts per RLHF step.", omitted=True)] = None
    answers_per_update: Annotated[int | None, Info("Answers per RLHF step.", omitted=True)] = None
    stage: Annotated[int | None, Info("Number of this stage, from 1.", omitted=True)] = None
    stages: Annotated[int | None, Info("Number of stages.", omitted=True)] = None
    stage_name: Annotated[str | None, Info("Name of this stage.", omitted=True)] = None


@dataclass(frozen=True, kw_only=True)
class StepEvent(StageEvent):
    """Optimizer steps were made since the previous event of this kind."""

    kind: ClassVar[str] = "step"
    step: Annotated[int, Info("Number of the newest step, from 1.")]
    total_steps: Annotated[int | None, Info("Optimizer steps of this stage.")] = None
    epoch: Annotated[float | None, Info("Passes over the training rows so far.")] = None
    loss: Annotated[float | None, Info("Mean training loss of these steps.")] = None
    learning_rate: Annotated[float | None, Info("Learning rate of the newest step.")] = None
    grad_norm: Annotated[float | None, Info("Gradient norm before clipping.")] = None
    tokens: Annotated[int | None, Info("Tokens of these steps.", "tokens")] = None
    tokens_per_s: Annotated[float | None, Info("Throughput of training.", "tokens/s")] = None
    seconds: Annotated[float | None, Info("Mean training time of one step.", "s")] = None
    tokens_so_far: Annotated[int | None, Info("Tokens of all steps.", "tokens", True)] = None
    flops_so_far: Annotated[float | None, Info("FLOPs of all steps.", "FLOPs", True)] = None
    metrics: Annotated[dict[str, float], Info("Further metrics.")] = field(default_factory=dict)
    cpu_percent: Annotated[float | None, Info("CPU load of the machine.", "%")] = None
    ram_gib: Annotated[float | None, Info("Resident memory of the worker.", "GiB")] = None
    gpu_percent: Annotated[float | None, Info("GPU load.", "%")] = None
    vram_gib: Annotated[float | None, Info("Peak GPU memory reserved by the worker.", "GiB")] = None

    @property
    def memory_gib(self) -> float | None:
        """GPU memory, or main memory where no GPU is used."""
        return self.ram_gib if self.vram_gib is None else self.vram_gib


@dataclass(frozen=True, kw_only=True)
class EvalEvent(StageEvent):
    """The evaluation split was evaluated. Metrics have no prefix `eval_`."""

    kind: ClassVar[str] = "eval"
    step: Annotated[int, Info("Step after which it was evaluated; 0 is before training.")]
    epoch: Annotated[float | None, Info("Passes over the training rows so far.")] = None
    loss: Annotated[float | None, Info("Evaluation loss; null: another metric is used.")] = None
    best: Annotated[bool, Info("Whether this is the best evaluation so far.")] = False
    metrics: Annotated[dict[str, float], Info("Further metrics.")] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SavedEvent(Event):
    """A checkpoint was written."""

    kind: ClassVar[str] = "saved"
    step: Annotated[int, Info("Step of the checkpoint.")]
    path: Annotated[str, Info("Path relative to the run folder.")] = ""
    best: Annotated[bool, Info("Whether it is the best checkpoint so far.")] = False


@dataclass(frozen=True, kw_only=True)
class AdjustedEvent(Event):
    """Batches are split differently from now on, to save memory or time; results stay the same."""

    kind: ClassVar[str] = "adjusted"
    step: Annotated[int, Info("First step it applies to.")]
    micro_batch: Annotated[int, Info("Rows per forward pass.")]
    accumulation: Annotated[int, Info("Forward passes per step.")]
    gradient_checkpointing: Annotated[bool, Info("Whether activations are recomputed.")]
    check_batch: Annotated[int | None, Info("Rows per forward pass of an evaluation.")] = None
    why: Annotated[str, Info("The reason, in words.")] = ""


@dataclass(frozen=True, kw_only=True)
class SampleEvent(StageEvent):
    """A completion that the model generated during training."""

    kind: ClassVar[str] = "sample"
    step: Annotated[int, Info("Step at which it was generated.")]
    prompt: Annotated[str, Info("The prompt, at most 2,000 characters.")] = ""
    completion: Annotated[str, Info("The completion, at most 2,000 characters.")] = ""
    reward: Annotated[float | None, Info("Its reward.", omitted=True)] = None


@dataclass(frozen=True, kw_only=True)
class SamplesEvent(StageEvent):
    """Greedy answers to the sample prompts: of the base model (step 0), at evaluations, at the end.

    `source` is `yours`, `evaluation` or `general`; `cut`: the answer reached the longest length.
    """

    kind: ClassVar[str] = "samples"
    step: Annotated[int, Info("Step after which they were generated.")]
    answers: Annotated[
        list[dict[str, Any]], Info("`prompt`, `source`, `expected`, `text`, `tokens`, `cut`.")
    ]
    seconds: Annotated[float | None, Info("Time that generating took.", "s")] = None


@dataclass(frozen=True, kw_only=True)
class ScoresEvent(Event):
    """Metrics of generated answers to the evaluation rows, at the end of training."""

    kind: ClassVar[str] = "scores"
    after: Annotated[dict[str, float], Info("Metrics of the trained model, by name.")]
    before: Annotated[dict[str, float] | None, Info("The same of the base model.")] = None
    rows: Annotated[int | None, Info("Evaluation rows that were answered.")] = None


@dataclass(frozen=True, kw_only=True)
class NoteEvent(Event):
    """A message for the user."""

    kind: ClassVar[str] = "note"
    code: Annotated[str, Info("Stable, hyphenated code of the message.")] = ""
    text: Annotated[str, Info("The message.")]


@dataclass(frozen=True, kw_only=True)
class _TrialRunNumbers(Event):
    """What a trial run measures in one stage."""

    peak_gib: Annotated[float, Info("Peak memory.", "GiB")]
    seconds_per_update: Annotated[float, Info("Expected mean time of one step.", "s")]
    seconds_per_update_worst: Annotated[float | None, Info("For the longest rows.", "s")] = None
    tokens_per_s: Annotated[float | None, Info("Expected throughput.", "tokens/s")] = None
    seconds_per_eval_batch: Annotated[float | None, Info("Time per evaluation batch.", "s")] = None
    score_seconds: Annotated[float | None, Info("Expected time of final scoring.", "s")] = None
    sample_seconds: Annotated[float | None, Info("Time of all sample prompts, once.", "s")] = None
    save_seconds: Annotated[float | None, Info("Time to save a checkpoint.", "s")] = None
    final_seconds: Annotated[float | None, Info("Time to save the output.", "s")] = None
    checkpoint_gib: Annotated[float | None, Info("Size of a checkpoint.", "GiB")] = None
    load_seconds: Annotated[float, Info("Time to load the model.", "s")] = 0.0
    prepare_seconds: Annotated[float, Info("Other time before the first step.", "s")] = 0.0
    updates: Annotated[int, Info("Steps that were made.")] = 0
    micro_batch: Annotated[int | None, Info("Rows per forward pass.")] = None
    accumulation: Annotated[int | None, Info("Forward passes per step.")] = None


@dataclass(frozen=True, kw_only=True)
class TrialRunStageEvent(_TrialRunNumbers):
    """A trial run measured a stage that is not the last one."""

    kind: ClassVar[str] = "trial_run_stage"
    run_updates: Annotated[int, Info("Steps that the real run makes in this stage.")] = 0


@dataclass(frozen=True, kw_only=True)
class TrialRunEvent(_TrialRunNumbers):
    """A trial run measured the last stage; `peak_gib` is the highest of all stages."""

    kind: ClassVar[str] = "trial_run"
    stages: Annotated[int, Info("Number of stages.")] = 1
    earlier_seconds: Annotated[float, Info("Expected time of all earlier stages.", "s")] = 0.0


@dataclass(frozen=True, kw_only=True)
class RewardTrialEvent(Event):
    """A trial run measured the rewards of sampled answers and of answers that try to cheat.

    A group is the answers to one prompt; it has no signal if all get the same reward.
    """

    kind: ClassVar[str] = "reward_trial"
    verdict: Annotated[str, Info("`constant`, `impossible`, `cheatable` or `fair`.")]
    sentence: Annotated[str, Info("The verdict in words.")]
    advice: Annotated[str, Info("What to do.")]
    groups: Annotated[int, Info("Number of groups.")]
    group_size: Annotated[int, Info("Answers of a group.")]
    no_signal: Annotated[int, Info("Groups without signal.")]
    low: Annotated[float, Info("Low end of the 95 % interval of the share of such groups.")]
    high: Annotated[float, Info("High end of that interval.")]
    mean: Annotated[float, Info("Mean reward of the sampled answers.")]
    spread: Annotated[float, Info("Mean standard deviation of the rewards of a group.")]
    best: Annotated[float, Info("Mean of the highest reward of each group.")]
    expected: Annotated[float | None, Info("Mean reward of the expected answers.")] = None
    cheats: Annotated[dict[str, float], Info("Mean reward by cheat: `empty`, `copied` ….")] = field(
        default_factory=dict
    )
    seconds: Annotated[float | None, Info("Time that the trial took.", "s")] = None


@dataclass(frozen=True, kw_only=True)
class FinishedEvent(Event):
    """The run ended after all its steps, or by early stopping."""

    kind: ClassVar[str] = "finished"
    steps: Annotated[int | None, Info("Steps that were made.")] = None
    seconds: Annotated[float | None, Info("Time since the training began.", "s")] = None
    output: Annotated[str | None, Info("Folder of the output, in the run folder.")] = None
    merged: Annotated[str | None, Info("Folder of the merged model there.", omitted=True)] = None
    loss: Annotated[float | None, Info("Newest training loss.")] = None
    eval_loss: Annotated[float | None, Info("Best evaluation loss.")] = None
    eval_bits_per_byte: Annotated[float | None, Info("Of the same evaluation.", omitted=True)] = (
        None
    )
    best_step: Annotated[int | None, Info("Step of the best evaluation.")] = None
    trial_run: Annotated[bool | None, Info("True for a trial run.", omitted=True)] = None


@dataclass(frozen=True, kw_only=True)
class StoppedEvent(StageEvent):
    """The run ended because a stop was requested."""

    kind: ClassVar[str] = "stopped"
    step: Annotated[int | None, Info("Newest step.")] = None
    kept: Annotated[bool | None, Info("Whether the trained weights were saved.")] = None
    best_step: Annotated[int | None, Info("Step of the saved weights, if older.")] = None


@dataclass(frozen=True, kw_only=True)
class FailedEvent(Event):
    """The run ended with an error."""

    kind: ClassVar[str] = "failed"
    cause: Annotated[str, Info("Stable, hyphenated code of the cause.")] = "unexpected"
    what: Annotated[str, Info("What happened.")] = ""
    remedy: Annotated[str, Info("What to do about it.")] = ""


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """An event of a newer version, or one without its required fields. Never written."""


Ending = FinishedEvent | StoppedEvent | FailedEvent
ENDINGS = (FinishedEvent.kind, StoppedEvent.kind, FailedEvent.kind)


def event_kinds() -> dict[str, type[Event]]:
    """Return the class of every kind, in the order of this module."""
    return KINDS


def handlers_by_type(owner: object) -> dict[type[Event], Callable[..., None]]:
    """Return the methods `_on_KIND` of an object by the class of the event they handle."""
    methods = ((event, getattr(owner, f"_on_{kind}", None)) for kind, event in KINDS.items())
    return {event: method for event, method in methods if method is not None}


# Old name → new name. A key is a kind; a kind and a field; or a kind, a field and its value.
ALIASES: dict[tuple[str, ...], str] = {
    ("rehearsed",): "trial_run",
    ("rehearsed_stage",): "trial_run_stage",
    ("finished", "rehearsal"): "trial_run",
    ("phase", "name", "rehearsing"): "trial_run",
}
ALIASED_KINDS = frozenset(key[0] for key in ALIASES)


def with_current_names(kind: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return kind and data of an event with the names of this version."""
    renamed: dict[str, Any] = {}
    for name, value in data.items():
        alias = ALIASES.get((kind, name, value)) if isinstance(value, str) else None
        renamed[ALIASES.get((kind, name), name)] = alias or value
    return ALIASES.get((kind,), kind), renamed


def parse(kind: str, data: dict[str, Any]) -> Event:
    """Return the typed event.

    Unknown fields are ignored, and so are values of the wrong type. An event of an unknown kind,
    or one that lacks a required field, becomes an `UnknownEvent`.
    """
    event_type, defaults, ignored = _layout(kind, *data, *map(type, data.values()))
    event = object.__new__(event_type)
    if defaults or ignored:
        values = {**data, **defaults}
        data = {name: value for name, value in values.items() if name not in ignored}
    object.__setattr__(event, "__dict__", data)  # shared with the record: faster than a copy
    return event


@lru_cache(maxsize=256)
def _layout(
    kind: str, *names_and_types: Any
) -> tuple[type[Event], dict[str, Any], tuple[str, ...]]:
    """Return how to parse data with these fields: the class, defaults and names to ignore.

    Cached: most events of a kind have the same fields. Plain defaults are class attributes.
    """
    event_type = KINDS.get(kind, UnknownEvent)
    count = len(names_and_types) // 2
    names, types = names_and_types[:count], names_and_types[count:]
    given = dict(zip(names, types, strict=True))
    defaults: dict[str, Any] = {}
    for spec in field_specs(event_type):
        if issubclass(given.pop(spec.name, NoneType), (*spec.types, type(spec.default))):
            continue
        if spec.required:
            return UnknownEvent, {}, names
        if spec.name in names or not hasattr(event_type, spec.name):
            defaults[spec.name] = spec.default
    return event_type, defaults, tuple(given)
