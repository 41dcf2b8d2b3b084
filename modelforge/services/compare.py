"""Two runs or more side by side: what was asked, what came of it, and what they ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.data.sources.load import source_entries
from modelforge.diagnosis.verdict import judge_run
from modelforge.runs.atomic_files import find_json
from modelforge.runs.downsample import Point, decimate
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import Row
from modelforge.runs.metrics import AXES, RunMetrics
from modelforge.runs.view import RunView

# What was really run → how it is said. What is not named here follows from the settings.
IN_EFFECT = {
    "method": "Trainer",
    "device": "Device",
    "precision": "Precision",
    "quantization": "Weights held in",
    "max_length": "Longest row, in tokens",
    "total_steps": "Updates planned",
    "model_revision": "Revision of the model",
}
SHORT = 12


@dataclass(frozen=True)
class ComparisonRow:
    """One line of a table: a value for each run, None where it has none."""

    name: str
    label: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        """Whether the runs do not all have the same."""
        return any(value != self.values[0] for value in self.values)


@dataclass(frozen=True)
class RunResult:
    """What came of one run. Seconds are those of its updates, tokens those it was shown.

    `label` is its name, with what tells it from another run of that name.
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
    """Runs side by side. `settings` and `versions` hold only what differs, `data` every line."""

    runs: list[RunResult]
    settings: list[ComparisonRow]
    effect: list[ComparisonRow]
    data: list[ComparisonRow]
    versions: list[ComparisonRow]
    same_settings: int
    same_versions: int
    curves: list[RunMetrics] = field(repr=False)

    def as_dict(self, points: int) -> dict[str, Any]:
        """Return the comparison as REST and `--json` give it, curves thinned to `points`."""
        tables = ("settings", "effect", "data", "versions")
        return {
            "runs": [asdict(run) for run in self.runs],
            **{name: [asdict(line) for line in getattr(self, name)] for name in tables},
            "same_settings": self.same_settings,
            "same_versions": self.same_versions,
            "curves": [each.as_dict(points) for each in self.curves],
        }


def compare_runs(
    folders: Sequence[RunFolder],
    views: Sequence[RunView],
    rows: Sequence[Row],
    curves: Sequence[RunMetrics],
) -> Comparison:
    """Return what these runs have in common, what not, and what came of each."""
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
    curves: RunMetrics, name: str, axis: str, *, held: bool = False, most: int
) -> list[Point]:
    """Return a curve over all stages: `axis` is one of `AXES`, later stages follow on."""
    assert axis in AXES, axis
    found: list[Point] = []
    begun = 0.0
    for stage in curves.stages:
        curve = (stage.eval if held else stage.train).get(name)
        if curve is not None:
            found += [(begun + x, y) for x, y in stage.points(curve, axis)]
        begun += stage.length(axis)
    return decimate(found, most)


def flatten_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and name not in specs_by_name():
            found |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            found[name] = value
    return found


def _settings(configs: Sequence[Mapping[str, Any]]) -> Iterable[ComparisonRow]:
    said = [flatten_settings(config) for config in configs]
    for name, spec in specs_by_name().items():
        yield ComparisonRow(name, spec.label, [each.get(name, spec.default) for each in said])
    # A newer version may have asked for what this one does not know.
    for name in sorted({name for each in said for name in each} - specs_by_name().keys()):
        yield ComparisonRow(name, name, [each.get(name) for each in said])


def _data(records: Sequence[dict[str, Any]]) -> list[ComparisonRow]:
    sources = [source_entries(record) if record else [] for record in records]
    return [
        ComparisonRow("rows", "Rows", [record.get("rows") for record in records]),
        ComparisonRow("files", "Files", [", ".join(_files(each)) for each in sources]),
        ComparisonRow(
            "sha256", "Fingerprint (SHA-256)", [", ".join(_marks(each)) for each in sources]
        ),
        ComparisonRow("mapping", "Read as", [", ".join(_kinds(each)) for each in sources]),
    ]


def _files(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    named = (str(file).replace("\\", "/") for each in sources for file in each.get("files", ()))
    return [name.rsplit("/", 1)[-1] for name in named]


def _marks(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each.get("sha256") or "unknown")[:SHORT] for each in sources]


def _kinds(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each.get("mapping", {}).get("kind", "unknown")) for each in sources]


def _versions(environments: Sequence[Mapping[str, Any]]) -> Iterable[ComparisonRow]:
    told = [
        {name: said for name, said in each.items() if isinstance(said, str)}
        | {str(name): version for name, version in (each.get("packages") or {}).items()}
        for each in environments
    ]
    for name in dict.fromkeys(name for each in told for name in each):
        yield ComparisonRow(name, name, [each.get(name) for each in told])


def _result(folder: RunFolder, row: Row, curves: RunMetrics, *, shared: bool) -> RunResult:
    verdict = judge_run(folder.events)
    tokens = sum(stage.length("tokens") for stage in curves.stages)
    seconds = sum(stage.length("seconds") for stage in curves.stages)
    held = [y for _, y in across_stages(curves, "loss", "step", held=True, most=2**31)]
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
        tokens_per_s=round(tokens / seconds, 2) if seconds else None,
        loss=row.loss,
        eval_loss=row.eval_loss,
        best_eval_loss=min(held, default=None),
        scores=row.scores,
        bytes=row.bytes,
        ending=row.ending,
        verdict=verdict.text if verdict else "",
    )
