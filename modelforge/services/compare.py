"""Compare runs: their settings, results, data and versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.config.resolve import flatten
from modelforge.data.sources.load import source_entries
from modelforge.diagnosis.verdict import judge_run
from modelforge.runs.atomic_files import find_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunRow
from modelforge.runs.progress.downsample import Point, decimate
from modelforge.runs.progress.metrics import AXES, RunMetrics
from modelforge.runs.view import RunView

# Effective values of the plan and their labels; all others follow from the settings.
IN_EFFECT = {
    "method": "Trainer",
    "device": "Device",
    "precision": "Precision",
    "quantization": "Quantization",
    "max_length": "Max sequence length",
    "total_steps": "Planned steps",
    "model_revision": "Model revision",
}
HASH_LENGTH = 12
# Runs that differ in one of these measure their evaluation loss in another way or on other rows.
LOSS_DEPENDS_ON = {
    "method": "training methods",
    "trainer.preference_loss": "losses",
    "sha256": "data",
    "mapping": "data",
    "eval_split": "evaluation rows",
    "data.validation_sources": "evaluation rows",
}


@dataclass(frozen=True)
class ComparisonRow:
    """One row of a table: a value for each run, None if it has none."""

    name: str
    label: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        """Whether the values of the runs differ."""
        return any(value != self.values[0] for value in self.values)


@dataclass(frozen=True)
class RunResult:
    """The result of one run.

    `seconds` and `tokens` are those of its steps, `duration` is that of the run, with loading,
    evaluation and saving. `label` is its name, with its id if another run has the same name.
    """

    id: str
    name: str
    label: str
    state: str
    created: float
    tags: list[str]
    note: str
    updates: int
    tokens: float
    seconds: float
    duration: float
    tokens_per_s: float | None
    loss: float | None
    eval_loss: float | None
    best_eval_loss: float | None
    scores: dict[str, Any] | None
    bytes: int
    ending: dict[str, Any] | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Compared runs. `settings`, `effect` and `versions` hold only rows that differ."""

    runs: list[RunResult]
    settings: list[ComparisonRow]
    effect: list[ComparisonRow]
    data: list[ComparisonRow]
    versions: list[ComparisonRow]
    same_settings: int
    same_versions: int
    curves: list[RunMetrics] = field(repr=False)

    @property
    def differing_losses(self) -> str:
        """What makes the evaluation losses incomparable, as words; empty if nothing does."""
        rows = (*self.settings, *self.effect, *self.data)
        differ = {row.name for row in rows if row.differs}
        found = [words for name, words in LOSS_DEPENDS_ON.items() if name in differ]
        return ", ".join(dict.fromkeys(found))

    def as_dict(self, points: int) -> dict[str, Any]:
        """Return the comparison as REST and `--json` give it, with at most `points` per curve."""
        curves = [metrics.as_dict(points) for metrics in self.curves]
        return asdict(replace(self, curves=[])) | {"curves": curves}


def compare_runs(
    folders: Sequence[RunFolder],
    views: Sequence[RunView],
    rows: Sequence[RunRow],
    curves: Sequence[RunMetrics],
) -> Comparison:
    """Return the differences between runs, and the result of each."""
    settings = list(_settings([view.config for view in views]))
    plans = [view.plan.as_dict() for view in views]
    effect = [
        ComparisonRow(name, label, [p.get(name) for p in plans])
        for name, label in IN_EFFECT.items()
    ]
    versions = list(_versions([find_json(folder.environment) or {} for folder in folders]))
    names = Counter(row.name for row in rows)
    return Comparison(
        runs=[
            _result(folder, row, measured, shared=names[row.name] > 1)
            for folder, row, measured in zip(folders, rows, curves, strict=True)
        ],
        settings=[line for line in settings if line.differs],
        effect=[line for line in effect if line.differs],
        data=_data([view.dataset for view in views]),
        versions=[line for line in versions if line.differs],
        same_settings=sum(not line.differs for line in settings),
        same_versions=sum(not line.differs for line in versions),
        curves=list(curves),
    )


def across_stages(
    metrics: RunMetrics, name: str, axis: str, *, evaluated: bool = False, limit: int
) -> list[Point]:
    """Return one curve of at most `limit` points over all stages, placed one after the other.

    `axis` is one of `AXES`.
    """
    assert axis in AXES, axis
    points: list[Point] = []
    offset = 0.0
    for stage in metrics.stages:
        curve = (stage.eval if evaluated else stage.train).get(name)
        if curve is not None:
            points += [(offset + x, y) for x, y in stage.points(curve, axis)]
        offset += stage.length(axis)
    return decimate(points, limit)


def value_text(value: Any) -> str:
    """Return a value of a table as text."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) or "–"
    if isinstance(value, dict):
        parts = (f"{key} {value_text(part)}" for key, part in value.items() if part is not None)
        return ", ".join(parts)
    return str(value)


def _settings(configs: Sequence[Mapping[str, Any]]) -> Iterable[ComparisonRow]:
    flat = [flatten(config) for config in configs]
    for name, spec in specs_by_name().items():
        yield ComparisonRow(name, spec.label, [each.get(name, spec.default) for each in flat])
    # A run of a newer version may have settings that are unknown here.
    for name in sorted({name for each in flat for name in each} - specs_by_name().keys()):
        yield ComparisonRow(name, name, [each.get(name) for each in flat])


def _data(records: Sequence[dict[str, Any]]) -> list[ComparisonRow]:
    sources = [source_entries(record) if record else [] for record in records]
    return [
        ComparisonRow("rows", "Rows", [record.get("rows") for record in records]),
        ComparisonRow("files", "Files", [", ".join(_files(each)) for each in sources]),
        ComparisonRow(
            "sha256", "Fingerprint (SHA-256)", [", ".join(_hashes(each)) for each in sources]
        ),
        ComparisonRow("mapping", "Read as", [", ".join(_row_kinds(each)) for each in sources]),
    ]


def _files(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    named = (str(file).replace("\\", "/") for each in sources for file in each.get("files", ()))
    return [name.rsplit("/", 1)[-1] for name in named]


def _hashes(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each.get("sha256") or "unknown")[:HASH_LENGTH] for each in sources]


def _row_kinds(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each.get("mapping", {}).get("kind", "unknown")) for each in sources]


def _versions(environments: Sequence[Mapping[str, Any]]) -> Iterable[ComparisonRow]:
    versions = [
        {name: value for name, value in each.items() if isinstance(value, str)}
        | {str(name): version for name, version in (each.get("packages") or {}).items()}
        for each in environments
    ]
    for name in dict.fromkeys(name for each in versions for name in each):
        yield ComparisonRow(name, name, [each.get(name) for each in versions])


def _result(folder: RunFolder, row: RunRow, curves: RunMetrics, *, shared: bool) -> RunResult:
    verdict = judge_run(folder.events)
    tokens = sum(stage.length("tokens") for stage in curves.stages)
    seconds = sum(stage.length("seconds") for stage in curves.stages)
    losses = across_stages(curves, "loss", "step", evaluated=True, limit=2**31)
    return RunResult(
        id=row.id,
        name=row.name,
        label=f"{row.name} ({row.id})" if shared else row.name,
        state=row.state,
        created=row.created,
        tags=list(row.tags),
        note=row.note,
        updates=int(sum(stage.length("step") for stage in curves.stages)) or row.step,
        tokens=tokens,
        seconds=round(seconds, 3),
        duration=round(row.duration, 3),
        tokens_per_s=round(tokens / seconds, 2) if seconds else None,
        loss=row.loss,
        eval_loss=row.eval_loss,
        best_eval_loss=min((loss for _, loss in losses), default=None),
        scores=row.scores,
        bytes=row.bytes,
        ending=row.ending,
        verdict=verdict.text if verdict else "",
    )
