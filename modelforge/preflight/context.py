"""The inputs of a plan, and of all checks and estimates of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from modelforge.config.methods import METHOD_FACTS, method_of
from modelforge.config.plan.context import PlanContext, is_native_linux
from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.plan.pretraining import (
    PretrainingPlan,
    eval_tokens,
    text_tokens,
)
from modelforge.config.plan.training import effective_accumulation
from modelforge.config.profiles import profile_length
from modelforge.config.progressive.cost import LayerSizes
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.combine import RunData
from modelforge.errors import ForgeError
from modelforge.models.architecture import ModelInfo
from modelforge.models.from_nothing import new_model
from modelforge.paths import Home
from modelforge.preflight.memory.estimate import MemoryPart, estimate_memory, total_gib
from modelforge.preflight.memory.growing import largest_stage
from modelforge.preflight.memory.traced import MemoryTrace, longest_row_tokens, traced_parts
from modelforge.preflight.prompts import LongPrompts
from modelforge.preflight.speed import estimate_tokens, model_flops
from modelforge.preflight.trial_run import LastRun, TrialRunResult

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.data.core_sizes import CoreTaskSize
    from modelforge.hardware.machine import Machine
    from modelforge.hardware.nvidia import Gpu

NO_DATA = RunData()


@dataclass(frozen=True)
class RunContext:
    """Config, plan, machine, model and data of one run, with the measurements there are.

    `model` and `summary` are None where the model or the data could not be found; `summary`
    describes all sources of `data` together. `long_prompts` is set if no prompt fits.
    `step_time_factor` is how many times as long as estimated a step took in the last runs on the
    device; None before the first. `evaluation_time_factor` is the same for evaluation reports.
    `core` are the tasks of the CORE folder.
    """

    config: TrainingConfig
    plan: Plan
    machine: Machine
    model: ModelInfo | None
    summary: DatasetSummary | None
    home: Home
    data: RunData = NO_DATA
    trial_run: TrialRunResult | None = None
    memory_trace: MemoryTrace | None = None
    long_prompts: LongPrompts | None = None
    last_run: LastRun | None = None
    step_time_factor: float | None = None
    evaluation_time_factor: float = 1.0
    core: tuple[CoreTaskSize, ...] = ()

    def with_settings(self, settings: Mapping[str, Any]) -> RunContext:
        """Return the same run with some settings changed, by dotted names, and a new plan.

        The measurements are dropped, since they hold for the old settings.
        """
        config = self.config.with_changes(settings)
        changed = replace(
            self,
            config=config,
            trial_run=None,
            memory_trace=None,
            long_prompts=None,
            last_run=None,
        )
        model = new_model(config, self.home) if config.pretraining.enabled else self.model
        if model is None:
            return changed
        context = build_plan_context(
            config,
            self.machine,
            model,
            train_rows=train_rows(config, model, self.data),
            summary=self.summary,
            start_from=self.plan.start_from,
            home=self.home,
        )
        context = replace(context, resume_from=self.plan.resume_from)
        return replace(changed, model=model, plan=make_plan(config, context))

    @cached_property
    def formula_parts(self) -> list[MemoryPart]:
        """The parts of the memory by the formula; empty for an unknown model."""
        if self.model is None:
            return []
        length = longest_row_tokens(self.config, self.plan, self.summary)
        is_cuda_build = bool(self.machine.torch_cuda)
        if self.plan.growing is not None:
            return largest_stage(
                self.config, self.plan, self.model, length, is_cuda_build=is_cuda_build
            )
        return estimate_memory(
            self.rank_config,
            self.plan,
            self.model,
            length,
            is_cuda_build=is_cuda_build,
        )

    @property
    def formula_gib(self) -> float:
        """The memory by the formula, which makes two runs comparable; 0 for an unknown model."""
        return total_gib(self.formula_parts) or 0.0

    @cached_property
    def memory(self) -> list[MemoryPart]:
        """The parts of the memory: traced where there is a trace, else by the formula."""
        if self.memory_trace is None:
            return self.formula_parts
        length = longest_row_tokens(self.config, self.plan, self.summary)
        return traced_parts(self.memory_trace, self.config, self.plan, length)

    @property
    def memory_total_gib(self) -> float | None:
        """The memory of the run: measured by a trial run, else the sum of the parts."""
        return self.trial_run.peak_gib if self.trial_run else total_gib(self.memory)

    @property
    def memory_basis(self) -> Literal["formula", "traced", "trial_run"] | None:
        """How the memory was determined; None where it is unknown."""
        if self.trial_run is not None:
            return "trial_run"
        if self.memory_trace is not None:
            return "traced"
        return "formula" if self.memory else None

    @property
    def eval_rows(self) -> int:
        """About how many rows are evaluated; windows of the text in a training from nothing."""
        if self.plan.pretraining is not None:
            return self._eval_windows(self.plan.pretraining)
        if self.data.validation:
            return sum(source.rows for source in self.data.validation)
        return round((self.summary.rows if self.summary else 0) * self.config.eval_split)

    def _eval_windows(self, planned: PretrainingPlan) -> int:
        share, sources = self.config.eval_split, self.data.validation
        tokens = (planned.text_tokens or 0.0) * share / max(1e-9, 1 - share)
        if sources:
            chars = sum(source.summary.mean_chars * source.rows for source in sources)
            tokens = text_tokens(chars, planned.shape.vocab_size)
        between = (self.plan.eval_steps or planned.steps) * planned.batch_tokens
        return round(min(tokens, eval_tokens(self.config, between)) / planned.shape.context)

    @property
    def gpu(self) -> Gpu | None:
        """The GPU of the run; None on other devices."""
        if self.plan.device != "cuda":
            return None
        index = self.config.hardware.gpu_index
        return next((gpu for gpu in self.machine.gpus if gpu.index == index), None)

    @property
    def rank_config(self) -> TrainingConfig:
        """The config with the rows of a batch on each GPU, for estimates of one GPU."""
        size = self.plan.rank_batch_size
        changed = {"per_device_train_batch_size": size} if size else {}
        return self.config.with_changes(changed) if changed else self.config

    @property
    def batches(self) -> int:
        """Batches of a step, of all GPUs."""
        if self.plan.pretraining is not None:
            return self.plan.pretraining.accumulation
        return effective_accumulation(self.config)

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        """The compute capability of the GPU; None where it is unknown."""
        return self.gpu.compute_capability if self.gpu else None

    @property
    def ranks_here(self) -> int:
        """Processes of the run on one computer: several may train it together."""
        return max(1, self.plan.ranks // self.machine.nodes)

    @property
    def available_gib(self) -> float | None:
        """Free memory of the device that the run may use: of the GPU, else of the computer."""
        if self.plan.device == "cuda":
            bounds = (self.gpu.free_gib, self.total_memory_gib) if self.gpu else ()
            return min((bound for bound in bounds if bound is not None), default=None)
        free = self.machine.ram_free_gib
        # Processes on the CPU share its memory; the estimate is that of one of them.
        return None if free is None else free / self.ranks_here

    @property
    def total_memory_gib(self) -> float | None:
        """Memory of the device that the run may use, free or not."""
        if self.plan.device == "cuda":
            total = self.gpu.total_gib if self.gpu else None
            return total * self.plan.max_vram_fraction if total is not None else None
        return self.machine.ram_total_gib

    @property
    def device_name(self) -> str:
        """The device that holds the memory, for messages."""
        return "GPU" if self.plan.device == "cuda" else "computer"


def build_plan_context(
    config: TrainingConfig,
    machine: Machine,
    model: ModelInfo,
    *,
    train_rows: int | None = None,
    summary: DatasetSummary | None = None,
    start_from: str | None = None,
    home: Home | None = None,
) -> PlanContext:
    """Return the context of the plan; `start_from` is the folder of an adapter.

    Without `home` only the shipped profiles are known.
    """
    device = machine.device if config.hardware.device == "auto" else config.hardware.device
    gpu = next((gpu for gpu in machine.gpus if gpu.index == config.hardware.gpu_index), None)
    return PlanContext(
        device=device,
        model_path=model.path,
        model_revision=model.revision,
        tokenizer_path=model.tokenizer,
        vocab_size=model.tokens if config.pretraining.enabled else None,
        compute_capability=gpu.compute_capability if gpu else None,
        context=model.context,
        train_rows=train_rows,
        kind=model.kind,
        packages=frozenset(machine.packages),
        start_from=start_from,
        row_tokens=_row_tokens(config, model, summary) if summary else None,
        longest_row=int(estimate_tokens(summary.longest_chars)) if summary else None,
        model_type=model.model_type,
        model_flops=model_flops(config, model),
        layers=model.layers,
        layer_sizes=layer_sizes(model),
        gpus=sum(each.index >= config.hardware.gpu_index for each in machine.gpus),
        native_linux=is_native_linux(machine.system),
        profile_length=profile_length(config.compute_specs, home.profiles if home else None),
    )


def layer_sizes(model: ModelInfo) -> LayerSizes | None:
    """Return the sizes of the layers of a model; None where they are unknown.

    Their `scores` are those of one token that is attended to.
    """
    if not (model.layers and model.parameters and model.layer_matrices and model.hidden_size):
        return None
    embedding = (model.vocab or 0) * model.hidden_size
    matrices = sum(inputs * outputs for inputs, outputs in model.layer_matrices)
    others = model.parameters - model.embedding_weights - model.layers * matrices
    vectors = max(0, others - model.hidden_size) // model.layers
    return LayerSizes(
        matrices=tuple(model.layer_matrices),
        layer_vectors=vectors,
        final_vectors=max(0, others - vectors * model.layers),
        embedding=embedding,
        is_tied=model.tied,
        scores=model.layer_matrices[0][1],
    )


def _row_tokens(config: TrainingConfig, model: ModelInfo, summary: DatasetSummary) -> float:
    if config.pretraining.enabled:
        return text_tokens(summary.mean_chars, model.vocab or config.pretraining.vocab_size) + 1
    return estimate_tokens(summary.mean_chars)


def train_rows(config: TrainingConfig, model: ModelInfo, data: RunData) -> int | None:
    """Return the number of training rows; None without sources or with an impossible split.

    An impossible split is reported by the checks.
    """
    if not data.sources:
        return None
    if config.pretraining.enabled:
        # Parts of documents are evaluated by their hash, so a single one can be divided.
        share = 0.0 if data.validation else config.eval_split
        return max(1, round(data.summary.rows * (1 - share)))
    try:
        rows = data.train_rows(config.eval_split)
    except ForgeError:
        return None
    takes_labels = METHOD_FACTS[method_of(config, model.kind)].takes_labels
    return data.labelled_completions(rows) if takes_labels else rows
