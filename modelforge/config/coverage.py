"""The page docs/coverage.md: every option of the documented systems, what it is here, and the test.

A row has one of the states of `STATES`. The tests that show an effect are listed beside the tests
(tests/settings_effects.py) and given to `coverage_markdown`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from modelforge.config.fields import field_specs
from modelforge.config.importers import nanochat, safe_synthesizer, stack_wise, surogate
from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.options import ABSENT
from modelforge.config.importers.report import ReportLine
from modelforge.config.importers.surogate_data import SOURCE_FIELDS
from modelforge.config.importers.system import System
from modelforge.config.schema.contract import Contract
from modelforge.errors import ConfigError

State = Literal["setting", "otherwise", "impossible", "later", "beyond", "open"]
STATES: Final[dict[State, str]] = {
    "setting": "the option is a setting, under the name that is given, for some or all of its "
    "values; the test shows that a changed value changes what a run does.",
    "otherwise": "what the option is for is had in another way, which the test shows.",
    "impossible": "PyTorch and the libraries of Hugging Face cannot do it; the reason is given.",
    "later": "it belongs to a feature that is not there yet: more shapes of models.",
    "beyond": "the document does not have it; newer versions of the system do.",
    "open": "nothing of it is there.",
}
# Features that are announced, as the reports of importers call them.
LATER = ("more shapes of models from nothing",)
# Values that are tried where an option names none.
TRIED: tuple[Any, ...] = (
    *(True, False, 1, 2, 1000, 0.5, "text", "auto", "linear", "/text", "/text.log"),
    *(["text"], [0.5], [{"path": "text"}], {0: {}}, {"type": "dpo"}, {"dp_enabled": True}),
    {0: {"rank": 8, "alpha": 16}},
)
# Options that are given beside the one that is tried, because it has no effect without them.
BESIDE: dict[str, dict[str, Any]] = {
    "surogate": {
        "persistent_quants": True,
        "shard_weights": True,
        "optimizer": "normuon",
        "max_model_len": 4096,
    },
    "safe-synthesizer": {"quantize_model": True, "privacy": {"dp_enabled": True}},
    "stack-wise": {"data": {"dataset_path": "text"}},
}
# The same for one option alone, as system:option.
BESIDE_ONE: dict[str, dict[str, Any]] = {
    "surogate:from_scratch": {"lora": False, "model": "text"},
    "stack-wise:model.tokenizer_embedding.adapter_hidden_dim": {"training": {"mode": "fused"}},
    **{
        f"surogate:{name}": {"gpus": 2}
        for name in ("zero_level", "shard_weights", "shard_gradients")
    },
    "surogate:init_projections_to_zero": {"lora": False, "from_scratch": True},
}
ASKS_NOTHING = ("This value asks for nothing.", "It is empty, as if it were left out.")
DOCUMENTED = (
    surogate.SYSTEM,
    nanochat.SYSTEM,
    safe_synthesizer.SYSTEM,
    stack_wise.SYSTEM,
)
# Had in another way. Tests show how (tests/settings_effects.py).
OTHERWISE: Final[dict[str, frozenset[str]]] = {
    "surogate": frozenset({
        *("apply_recommended_values", "output_dir", "checkpoint_dir", "resume_from_checkpoint"),
        *("model_type", "eval_seed", "log_gpu_util"),
    }),
    "nanochat": frozenset({"model-tag", "help"}),
    "safe-synthesizer": frozenset({"effective_batch_size"}),
    "stack-wise": frozenset({
        *("training.checkpoint_dir", "precision_options"),
        "model.tokenizer_embedding.embedding_option",
    }),
}  # fmt: skip
# Without the kernels, the buffers or the inputs of the other program they mean nothing.
IMPOSSIBLE: Final[dict[str, frozenset[str]]] = {
    "surogate": frozenset({
        # How its own engine moves data between GPUs, and experts that are divided among them.
        *("use_all_to_all_reduce", "memcpy_all_gather", "memcpy_send_recv", "ep_size"),
        # Images and agents are outside the three tasks.
        *("max_pixels", "norm_bbox", "agent_template"),
    }),
    # The model classes of Transformers that are built here.
    "stack-wise": frozenset({"model.use_rope"}),
}  # fmt: skip
# Not in the documents: read because newer files have them.
BEYOND: Final[dict[str, frozenset[str]]] = {
    "surogate": frozenset({"ep_load_balance_threshold", "train_vision"}),
    # Other groups of its files; the document has the group of the training.
    "safe-synthesizer": frozenset({
        *("data", "data_source", "generation", "evaluation", "time_series"),
    }),
}  # fmt: skip
CONTRACT = "modelforge"
_INTRODUCTION = """# Coverage

Every option of the five documents that ModelForge follows, what it is here, and the test that shows
it. The table is written by `scripts/docs.py` from the tables of the [importers](importing.md) and
of the tests.

"""


@dataclass(frozen=True)
class CoverageRow:
    """An option of a documented system: its state, its settings, and the reason if it has none."""

    system: str
    option: str
    state: State
    settings: tuple[str, ...] = ()
    why: str = ""

    @property
    def shown_by(self) -> tuple[str, ...]:
        """What a test has to show: the settings, or the option itself as system:option."""
        if self.state == "otherwise":
            return (f"{self.system}:{self.option}",)
        return self.settings


@cache
def coverage_rows() -> tuple[CoverageRow, ...]:
    """Return a row for every option of every document."""
    own = [spec.name for spec in field_specs() if spec.name in Contract.model_fields]
    rows = [CoverageRow(CONTRACT, name, "setting", (name,)) for name in own]
    for system in DOCUMENTED:
        rows += [_row(system, name) for name in system.options]
        if system is surogate.SYSTEM:
            fields = ("path", "type", "system_prompt_type", *SOURCE_FIELDS)
            rows += [
                CoverageRow(system.name, f"datasets.{name}", "setting", (f"data.sources.{name}",))
                for name in fields
            ]
    return tuple(rows)


def coverage_markdown(tests: Mapping[str, Sequence[str]]) -> str:
    """Return docs/coverage.md; `tests` are the names of tests by what they show."""
    counts = {state: sum(row.state == state for row in coverage_rows()) for state in STATES}
    states = [
        f"- **{state}** ({counts[state]}): {text}"
        for state, text in STATES.items()
        if counts[state]
    ]
    titles = {CONTRACT: "ModelForge", **{system.name: system.title for system in DOCUMENTED}}
    parts = [_INTRODUCTION + "\n".join(states) + "\n"]
    for name, title in titles.items():
        rows = [_line(row, tests) for row in coverage_rows() if row.system == name]
        head = ["| option | state | setting, or why | shown by |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {title}\n", *head, *rows, ""]))
    return "\n".join(parts)


def _line(row: CoverageRow, tests: Mapping[str, Sequence[str]]) -> str:
    what = ", ".join(f"`{name}`" for name in row.settings) or row.why
    shown = dict.fromkeys(test for name in row.shown_by for test in tests.get(name, ()))
    by = "<br>".join(f"`{test}`" for test in shown)
    return f"| `{row.option}` | {row.state} | {what} | {by} |"


def _row(system: System, name: str) -> CoverageRow:
    lines = list(_lines(name, system))
    found = [
        line.setting
        for line in lines
        if line.setting and line.result not in ("refused", "no-effect")
    ]
    if found:
        names = dict.fromkeys(part for each in found for part in each.split(", "))
        return CoverageRow(system.name, name, "setting", tuple(names))
    refused = [line.why for line in lines if line.result == "refused"]
    why = [*refused, *(line.why for line in lines if line.why not in ASKS_NOTHING)][0]
    return CoverageRow(system.name, name, _state(system.name, name, why), why=why)


def _state(system: str, name: str, why: str) -> State:
    """Return the state of an option that has no setting."""
    if name in OTHERWISE.get(system, ()):
        return "otherwise"
    if name in IMPOSSIBLE.get(system, ()):
        return "impossible"
    if any(feature in why for feature in LATER):
        return "later"
    return "beyond" if name in BEYOND.get(system, ()) else "open"


def _lines(name: str, system: System) -> Iterator[ReportLine]:
    """Yield what becomes of an option with each value that can be read."""
    option = system.options[name]
    own = () if option.default is ABSENT else (option.default,)
    for value in (*own, *option.choices, *TRIED):
        values = _nested(name, value, system)
        besides = BESIDE.get(system.name, {}) | BESIDE_ONE.get(f"{system.name}:{name}", {})
        for other, beside in besides.items():
            is_group = isinstance(beside, dict) and isinstance(values.get(other), dict)
            values[other] = beside | values[other] if is_group else values.get(other, beside)
        file = ForeignFile("file", values)
        try:
            report = system.read(file).report
        except ConfigError:
            continue
        yield from (line for line in report if line.name == name and not line.is_default)


def _nested(name: str, value: Any, system: System) -> dict[str, Any]:
    group, dot, inner = name.partition(".")
    if not dot:
        return {name: value}
    groups = {each.removeprefix(f"{group}.") for each in system.groups if each.startswith(group)}
    deeper, dot, last = inner.partition(".")
    return {group: {deeper: {last: value}} if dot and deeper in groups else {inner: value}}
