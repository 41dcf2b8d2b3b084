"""What REST answers: the shape of every response, with what each part means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from modelforge.config.plan.make import Plan
from modelforge.errors import Finding, Problem
from modelforge.hardware.nvidia import Gpu
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.suggest.fit import FitSuggestion
from modelforge.preflight.suggest.speedups import Speedup
from modelforge.runs.event_types import KINDS, json_schemas
from modelforge.runs.listing import Row
from modelforge.runs.states import RunState

Gib = Annotated[float | None, Field(description="In GiB; null when it is unknown.")]


def about(text: str) -> Any:
    """Return a required field that explains itself."""
    return Field(description=text)


class Problems(BaseModel):
    """What every refusal says: all that is wrong at once."""

    problems: list[Problem] = about("One entry a problem; `where` names the setting or part.")
    holder: str | None = Field(
        None, description="With 409: the run that holds the machine, or `chat` or `export`."
    )
    findings: list[Finding] = Field([], description="With 422 after preflight: all it found.")


class Health(BaseModel):
    """The server is there."""

    status: Literal["ok"]
    version: str = about("The version of ModelForge.")
    active: str | None = about("The run that holds the machine, or null.")
    warm: bool = about("Whether a warm worker waits for the next run.")


class MachineFacts(BaseModel):
    """What this computer is; null where it could not be found out."""

    system: str
    python: str
    cpu: str
    cores: int | None
    ram_total_gib: Gib
    ram_free_gib: Gib
    disk_free_gib: Gib
    disk_total_gib: Gib
    gpus: list[Gpu] = about("The NVIDIA cards that are visible.")
    gpu_note: str = about("Why there is no GPU, in words; empty when there is one.")
    apple_gpu: bool
    device: Literal["cuda", "mps", "cpu"] = about("Where a run trains unless it says otherwise.")
    practice: bool = about("True without a CUDA card: small models in full precision.")
    profile: str = about("The profile that suits this machine.")
    reason: str = about("Why that profile, in a sentence.")
    packages: list[str] = about("Packages that some settings need and that are installed.")
    cpu_flags: list[str] = about("Instructions of the processor that make bf16 fast on it.")


class ProfileFacts(BaseModel):
    """One class of machine."""

    name: str
    title: str
    description: str
    min_vram_gib: float
    min_ram_gib: float
    answers: dict[str, Any] = about("The settings that the form starts from.")
    models: list[dict[str, Any]] = about("The models that are recommended.")
    practice: dict[str, Any] = about("What differs from `answers` without a CUDA card.")


class SampleFacts(BaseModel):
    """One bundled data set."""

    name: str
    title: str
    description: str
    expect: str = about("What a model does after learning it.")
    dataset: str = about("What the setting `dataset` says for it.")
    path: str
    rows: int
    question: str = about("A question that is not in it, to try the model with.")
    task: str = about("The task that its rows are made for.")
    strategies: list[str] = about("The strategies that learn from such rows, the usual one first.")


class MemoryFacts(BaseModel):
    """The memory of a run, part by part."""

    memory: list[MemoryPart] = about("The parts, at the moment they come to the most.")
    memory_total_gib: Gib = None
    memory_available_gib: Gib = None
    memory_basis: Literal["formula", "traced", "trial_run"] | None = about(
        "How it is known: worked out, traced by the code that trains, or measured in a rehearsal."
    )


class Preflight(BaseModel):
    """What a run would be, before it starts. Numbers about memory and time are estimates."""

    ready: bool = about("Whether a start would be accepted.")
    blocked: bool = Field(False, description="Whether a finding forbids the start.")
    problems: list[Problem] = about("What is wrong with the settings, the model or the data.")
    findings: list[Finding] = about("What is to be known; a blocker forbids the start.")
    memory: list[MemoryPart] = about("The parts of the memory the run needs.")
    memory_total_gib: Gib = None
    memory_available_gib: Gib = None
    seconds: float | None = Field(None, description="About how long it takes.")
    seconds_basis: Literal["estimated", "trial_run"] | None = Field(
        None, description="Whether the time was worked out or measured in a rehearsal."
    )
    memory_basis: Literal["formula", "traced", "trial_run"] | None = Field(
        None, description="Whether the memory was worked out, traced or measured in a rehearsal."
    )
    trial_run: dict[str, Any] | None = Field(
        None, description="What a rehearsal of these settings has measured here, if there was one."
    )
    updates: int | None = Field(None, description="How many updates the run has.")
    disk_needed_gib: Gib = None
    disk_free_gib: Gib = None
    ways: list[FitSuggestion] = Field(
        [],
        description="What makes a run fit that does not, or only just; the first costs least.",
    )
    largest_model: str | None = Field(
        None, description="Where nothing makes it fit: the largest model that does."
    )
    largest_settings: dict[str, Any] = Field(
        {}, description="What is set for that model, its name among them."
    )
    tokens_per_s: float | None = Field(
        None, description="About how many tokens without padding a second are learned from."
    )
    levers: list[Speedup] = Field(
        [],
        description="What makes the run quicker or would: `settings` pull it, `times` is the "
        "factor on `tokens_per_s`, `gib` the memory it takes, `on` says that it is so already.",
    )
    recommended: dict[str, Any] = Field(
        {}, description="The settings, by dotted names, of all levers that are worth it together."
    )
    recommended_times: float | None = Field(
        None, description="The factor on `tokens_per_s` that those settings come to."
    )
    plan: Plan | None = about("What is really run, with a reason for every change.")


class Recommended(BaseModel):
    """What makes a run quicker and leaves what is learned as it is."""

    answers: dict[str, Any] = about("Settings by dotted names; none when nothing is worth it.")


class Started(BaseModel):
    """The run exists and its worker has been started."""

    id: str = about("The name of the run in every address.")
    state: RunState


class RunBrief(BaseModel):
    """One run in short. Times are Unix seconds."""

    id: str
    name: str
    state: RunState
    created: float
    launched: float | None = about("When its worker was started; null while it waits.")
    updated: float = about("When the worker last said something.")
    step: int = about("Updates done.")
    total_steps: int | None
    loss: float | None = about("The newest training loss.")
    eval_loss: float | None = about("The newest loss on held-out rows.")
    metrics: dict[str, float] = about(
        "What was measured last beside the loss, on held-out rows with `eval_` before the name."
    )
    stage: int | None = about("Which stage is at work, from 1; null for a run without stages.")
    scores: dict[str, Any] | None = about(
        "What the answers to held-out rows are worth: `rows`, `before` and `after`."
    )
    ending: dict[str, Any] | None = about("How it ended: `kind`, and the data of that event.")
    tags: list[str] = about("What people tagged it with.")
    note: str = about("What people wrote to it.")


class RunRow(RunBrief):
    """One run in the list, with what is searched, filtered and sorted by."""

    model: str = about("The last part of the model's name.")
    data: str = about("The last part of the data's name.")
    task: str
    strategy: str
    sizes: dict[str, int] = about("Bytes on the disk by part.")
    has_result: bool = about("Whether it has left something to talk to and to take away.")

    @classmethod
    def of(cls, row: Row) -> RunRow:
        """Return the row as REST gives it."""
        return cls.model_validate(row, from_attributes=True)


class RunFacts(RunBrief):
    """One run, with what was asked and what was planned."""

    config: dict[str, Any] = about("The settings that were said.")
    origins: dict[str, str] = about("Where each setting came from.")
    plan: Plan
    dataset: dict[str, Any] = about(
        "The data: its sources, each with files, sha256, rows and mapping."
    )
    seconds_left: float | None = Field(
        None, description="About how long it still takes, counted from `updated`; null if unknown."
    )
    phase_left: float | None = Field(
        None, description="About how long what it does just now still takes, counted the same."
    )
    adjusted: dict[str, Any] | None = Field(
        None,
        description="How it goes on since memory ran out: `step`, `micro_batch`, `accumulation`, "
        "`gradient_checkpointing`, `check_batch` and `why`; null when it never did.",
    )
    verdict: dict[str, Any] | None = Field(
        None, description="How it went, once it is over: `kind`, `text` and the `numbers` behind."
    )


class RunEvent(BaseModel):
    """One event of a run."""

    n: int = about("Its number, from 1, without gaps.")
    t: float = about("Unix seconds.")
    kind: str = Field(description="Its kind.", examples=list(KINDS))
    data: dict[str, Any] = Field(
        description="Its fields, which depend on the kind.",
        json_schema_extra={"anyOf": list(json_schemas())},
    )


class EventPage(BaseModel):
    """The events after a number, for programs that ask again and again."""

    events: list[RunEvent]
    last: int = about("Give this as `after` next time.")
    state: RunState


class OfferFacts(BaseModel):
    """One way to go on with a run."""

    kind: str = about("resume, continue or start-from.")
    step: int = about("The update it would go on from; 0 is anew.")
    text: str = about("What would happen.")
    why_not: str = about("Why it cannot be done; empty when it can.")


class DamageFacts(BaseModel):
    """A checkpoint that is not used."""

    name: str
    file: str = about("The first file that is not as it was saved.")
    reason: str = about("missing, size, hash, unknown, manifest or path.")
    why: str = about("The same in words.")


class OffersFacts(BaseModel):
    """How one can go on with a run that is over."""

    resume: OfferFacts
    continue_: OfferFacts = Field(alias="continue")
    start_from: OfferFacts
    damaged: list[DamageFacts] = about("Checkpoints that are passed over.")


class StateOnly(BaseModel):
    """Where a run stands now."""

    id: str
    state: RunState
