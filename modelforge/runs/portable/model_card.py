"""The model card of a run's result: metadata for the Hub, and a page for people.

Names that others chose (runs, datasets, settings) are escaped, and no path of this computer is in
it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modelforge.config.fields import field_specs
from modelforge.config.plan.make import Plan
from modelforge.config.rules.data import HUB_PREFIX
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.load import Record, source_entries
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.event_types import ScoresEvent
from modelforge.runs.events import iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name
from modelforge.runs.portable import loading
from modelforge.runs.portable.base_model import HUB_PAGE, BaseModel, hub_id
from modelforge.runs.progress.metrics import MeasuredStage
from modelforge.runs.progress.whole_run import whole_run
from modelforge.runs.timeline import Timeline

CURVE_ROWS = 12
MAX_VALUE_CHARS = 300
# Head of the trained model → pipeline tag of the Hub.
TAGS = {"seq2seq": "summarization", "span": "question-answering", "reward": "text-classification"}
TAG = "text-generation"
_KIND_TAGS = {"adapter": "lora", "gguf": "gguf", "ollama": "gguf", "mlx": "mlx"}
_LIBRARIES = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf", "mlx": "mlx"}
# Settings whose values are files, and those that other parts of the card show.
_FILES = ("model.chat_template", "adapter.start_from", "trainer.reward_model")
_SHOWN_ELSEWHERE = {"model_name", "dataset", "logging.run_name"}
_SHOWN_ALWAYS = (
    "strategy", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_seq_length", "optim", "lr_scheduler_type", "warmup_ratio",
    "weight_decay", "trainer.seed",
)  # fmt: skip
_ADAPTER_SETTINGS = ("lora_r", "lora_alpha", "lora_dropout", "adapter.target_modules")
_PRIVATE_GROUPS = ("logging.", "hardware.")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&:@/$])")


@dataclass(frozen=True)
class Form:
    """In which form a result is written.

    Attributes:
        kind: `model`: all weights were trained; `merged`: base and adapter in one.
        file: The GGUF file.
        model: The name of the model in Ollama.
        quantization: Of a GGUF file.
        adapters: Name and weight of every adapter, if several were combined.
        combination: How they were combined.
    """

    kind: Literal["adapter", "model", "merged", "gguf", "ollama", "mlx"]
    file: str = ""
    model: str = ""
    quantization: str = ""
    adapters: tuple[tuple[str, float], ...] = ()
    combination: str = ""


@dataclass(frozen=True)
class _Facts:
    """What the parts of a card are made of."""

    name: str
    config: TrainingConfig
    plan: Plan
    dataset: Record
    timeline: Timeline
    environment: dict[str, Any]

    @classmethod
    def read(cls, run: RunFolder) -> _Facts:
        record = read_json(run.config)
        timeline = Timeline(MeasuredStage)
        for event in iter_events(run.events):
            timeline.add(event)
        return cls(
            name=_line(run_name(run)) or run.id,
            config=TrainingConfig.from_record(record["config"]),
            plan=Plan.from_dict(record["plan"], record["config"]),
            dataset=record["dataset"],
            timeline=timeline,
            environment=find_json(run.environment) or {},
        )

    @property
    def eval_loss(self) -> float | None:
        """The evaluation loss of the saved weights."""
        stage = self.timeline.stage
        if self.config.evaluation.keep_best and stage.best is not None:
            return stage.best[1]
        return stage.last_eval("loss")

    @property
    def scores(self) -> ScoresEvent | None:
        return self.timeline.newest(ScoresEvent)


def model_card(run: RunFolder, base: BaseModel, form: Form) -> ModelCard:
    """Return the model card of a run's result in a form."""
    facts = _Facts.read(run)
    metadata = _metadata(facts, base, form).to_yaml()
    parts = [
        f"# {escape(facts.name)}",
        _what(facts, base, form),
        f"## Use\n\n{_how_to_use(facts, base, form)}",
        *([f"## Base model\n\n{_base_model(base)}"] if base.name else []),
        f"## Data\n\n{_data(facts.dataset)}",
        f"## Results\n\n{_results(facts, base)}",
        f"## Settings\n\n{_settings(facts)}",
        f"## Training\n\n{_curves(facts.timeline)}",
        f"## Versions\n\n{_versions(facts.environment)}",
        *([f"## Licence\n\n{_licence(base)}"] if base.name else []),
    ]
    body = "\n\n".join(parts)
    return ModelCard(f"---\n{metadata}\n---\n\n{body}\n")


def escape(text: str) -> str:
    """Return a text of others on one line, without effect as Markdown or HTML."""
    return _MARKUP.sub(r"\\\1", _line(text))


def code(text: object) -> str:
    """Return a text of others as code in a cell of a table or in a sentence."""
    line = _line(str(text)).replace("|", r"\|") or " "
    if len(line) > MAX_VALUE_CHARS:
        line = f"{line[:MAX_VALUE_CHARS]}…"
    fence = "`" * (max(map(len, re.findall(r"`+", line)), default=0) + 1)
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def without_home(text: str) -> str:
    """Return a text in which the home folder of this user is `~`."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 3 else text


def _line(text: str) -> str:
    """Return a text on one line, without characters that control or are not drawn."""
    spaced = re.sub(r"\s+", " ", without_home(text))
    return "".join(
        mark for mark in spaced if unicodedata.category(mark) not in ("Cc", "Cf")
    ).strip()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _metadata(facts: _Facts, base: BaseModel, form: Form) -> ModelCardData:
    datasets = hub_datasets(facts.dataset)
    relation = "adapter" if form.kind == "adapter" else "finetune"
    kind = _KIND_TAGS.get(form.kind)
    tag = TAGS.get(facts.plan.facts.head, TAG)
    return ModelCardData(
        base_model=base.hub_id or base.origin,
        base_model_relation=relation if base.name else None,
        datasets=datasets or None,
        eval_results=list(_eval_results(facts, datasets, tag)) or None,
        library_name=_LIBRARIES.get(form.kind, "transformers"),
        license=base.licence,
        license_name=base.licence_name,
        license_link=base.licence_link,
        model_name=facts.name,
        pipeline_tag=tag,
        tags=["modelforge", *([kind] if kind else []), facts.plan.method],
    )


def _eval_results(facts: _Facts, datasets: list[str], tag: str) -> Iterator[EvalResult]:
    dataset = datasets[0] if len(datasets) == 1 else None
    values = {} if facts.eval_loss is None else {"loss": ("Evaluation loss", facts.eval_loss)}
    if facts.scores is not None:
        values |= {name: (label(name), value) for name, value in facts.scores.after.items()}
    for name, (title, value) in values.items():
        if _is_finite(value):
            yield EvalResult(
                task_type=tag,
                dataset_type=dataset or "custom",
                dataset_name=dataset or "Evaluation split",
                metric_type=name,
                metric_name=title,
                metric_value=round(value, 6),
            )


def _what(facts: _Facts, base: BaseModel, form: Form) -> str:
    shown = f"[{code(base.name)}]({HUB_PAGE}{base.hub_id})" if base.hub_id else code(base.name)
    step = whole_run(facts.timeline).step
    trained = f"trained with ModelForge ({facts.plan.facts.label}, {step:,} steps)"
    if not base.name:
        text = f"A language model, trained from nothing with ModelForge in {step:,} steps."
    elif form.kind == "adapter":
        text = f"A LoRA adapter for {shown}, {trained}."
    elif facts.plan.trains == "all":
        text = f"All weights of {shown}, {trained}."
    else:
        text = f"{shown} merged with a LoRA adapter, {trained}."
    if form.kind in ("gguf", "ollama"):
        text += f" As a GGUF file for llama.cpp, {form.quantization.upper()}."
    if form.kind == "mlx":
        text += " As a folder for mlx-lm."
    if form.adapters:
        rows = [[code(name), f"{weight:g}"] for name, weight in form.adapters]
        text += f"\n\nSeveral adapters were combined ({form.combination}):\n\n"
        text += _table(["Run", "Weight"], rows)
    return text


def _how_to_use(facts: _Facts, base: BaseModel, form: Form) -> str:
    name = form.model if form.kind == "ollama" else form.file
    return loading.instructions(form.kind, facts.plan, base, name)


def _base_model(base: BaseModel) -> str:
    rows = [["Name", code(base.name)], ["Where", base.where if base.hub_id else escape(base.where)]]
    if base.revision:
        rows.append(["Revision", code(base.revision)])
    if base.origin:
        rows.append(["Derived from", f"[{code(base.origin)}]({HUB_PAGE}{base.origin})"])
    rows += [[f"SHA-256 of {code(name)}", code(digest)] for name, digest in base.weights.items()]
    return _table(["", ""], rows)


def _data(dataset: Record) -> str:
    rows = []
    for part, use in (("sources", "training"), ("validation", "evaluation")):
        for entry in source_entries(dataset, part):
            count = entry.get("rows")
            number = f"{count:,}" if isinstance(count, int) else ""
            rows.append([code(_dataset_name(entry)), use, number, code(entry.get("sha256") or "")])
    return _table(["Dataset", "Used for", "Rows", "SHA-256 of the files"], rows)


def _dataset_name(entry: Record) -> str:
    path = str((entry.get("source") or {}).get("path") or "")
    if path.startswith(HUB_PREFIX):
        return path.removeprefix(HUB_PREFIX)
    return file_name(path or next(iter(entry.get("files") or []), "dataset"))


def hub_datasets(record: Record) -> list[str]:
    """Return the datasets of the Hub that a run was trained on."""
    paths = [(entry.get("source") or {}).get("path", "") for entry in source_entries(record)]
    names = [path.removeprefix(HUB_PREFIX) for path in paths if path.startswith(HUB_PREFIX)]
    return list(dict.fromkeys(name for name in names if hub_id(name)))


def _results(facts: _Facts, base: BaseModel) -> str:
    rows = []
    if facts.eval_loss is not None:
        rows.append(["Evaluation loss", "", f"{facts.eval_loss:.4f}"])
    if facts.scores is not None:
        before = facts.scores.before or {}
        for name, value in facts.scores.after.items():
            start = f"{before[name]:.4f}" if _is_finite(before.get(name)) else ""
            rows.append([escape(label(name)), start, f"{value:.4f}" if _is_finite(value) else ""])
    if not rows:
        return "The run had no evaluation."
    if not base.name:
        return _table(["Metric", "Value"], ([name, after] for name, _before, after in rows))
    return _table(["Metric", "Base model", "After training"], rows)


def _settings(facts: _Facts) -> str:
    used = {change.where: change.used for change in facts.plan.changes}
    always = _SHOWN_ALWAYS + (_ADAPTER_SETTINGS if facts.plan.trains == "adapter" else ())
    rows = []
    for spec in field_specs():
        value = used.get(spec.name, _value(facts.config, spec.name))
        is_shown = spec.name in always or value != spec.default
        if not is_shown or value in (None, "", [], {}):
            continue
        if spec.name in _SHOWN_ELSEWHERE or spec.name.startswith(_PRIVATE_GROUPS):
            continue
        if spec.kind != "list":
            text = file_name(str(value)) if spec.name in _FILES else value
            rows.append([spec.label, code(spec.name), code(text)])
    return _table(["Setting", "Name", "Value"], rows)


def _value(config: TrainingConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _curves(timeline: Timeline) -> str:
    rows = [
        [f"{step:,.0f}", *("" if value is None else f"{value:.4f}" for value in values)]
        for step, *values in curve_rows(timeline.stage)
    ]
    if not rows:
        return "No step was reported."
    return _table(["Step", "Training loss", "Evaluation loss"], rows)


def curve_rows(
    stage: Any, limit: int = CURVE_ROWS
) -> Iterator[tuple[float, float | None, float | None]]:
    """Yield step, mean training loss since the row before, and evaluation loss."""
    train, evaluated = list(stage.train["loss"]), dict(stage.eval["loss"])
    steps = [step for step in evaluated if step > 0] or [step for step, _ in train]
    if len(steps) > limit:
        last = len(steps) - 1
        steps = [steps[round(i * last / (limit - 1))] for i in range(limit)]
    if steps and train and train[-1][0] > steps[-1]:
        steps.append(train[-1][0])
    before = 0.0
    for step in steps:
        losses = [loss for at, loss in train if before < at <= step]
        yield step, fmean(losses) if losses else None, evaluated.get(step)
        before = step


def _versions(environment: dict[str, Any]) -> str:
    packages = environment.get("packages") or {}
    rows = {"ModelForge": environment.get("modelforge"), "Python": environment.get("python")}
    shown = {name: version for name, version in {**rows, **packages}.items() if version}
    return _table(["Package", "Version"], ([code(n), code(v)] for n, v in shown.items()))


def _licence(base: BaseModel) -> str:
    if base.licence:
        name = f" ({code(base.licence_name)})" if base.licence_name else ""
        return f"The base model has the licence {code(base.licence)}{name}, which holds here too."
    return "The licence of the base model is not known; look it up before you pass this model on."


def file_name(path: str) -> str:
    """Return a path without its folders; a Hub id and a shipped name stay as they are."""
    is_path = path.startswith(("/", "~", ".")) or "\\" in path or ":" in path[1:2]
    if is_path or (path.count("/") > 1) or Path(path).exists():
        return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return path


def label(metric: str) -> str:
    """Return the name of a metric in words."""
    words = metric.replace("_", " ")
    return words[:1].upper() + words[1:]


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
