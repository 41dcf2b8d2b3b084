"""A system that our settings are exported to, and the walk through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Exported, ExportLine, Written
from modelforge.config.exporters.rules import Rule
from modelforge.config.fields import specs_by_name
from modelforge.config.schema.data import Source
from modelforge.config.visibility import describe_conditions, inapplicable_settings
from modelforge.errors import ConfigError, Problem

Check = Callable[[Facts], Iterator[Problem]]
# Settings that are written although another one decides their value.
ALWAYS_WRITTEN = (
    *("adapter.enabled", "quantization.scheme", "lora_alpha", "warmup_ratio"),
    *("learning_rate", "trainer.fractional_epochs"),
    # For the engine of the other program, which may not be that of this recipe.
    "hardware.engine_options",
)


@dataclass(frozen=True)
class TargetSystem:
    """Another system that can train what our settings say.

    Attributes:
        name: As `--to` takes it, such as `llama-factory`.
        title: As it writes itself.
        file_name: The usual name of its file.
        rules: One rule for each of our settings, by dotted name.
        check: Yields why it cannot train the method of these settings at all.
        finish: Returns options that follow from several settings, or that it needs always.
        command: Returns what trains with the file `FILE`.
        losses: Yields what differs there though every setting is written, as report lines.
        files: Returns further files that stand beside it, by name.
        layout: Returns the text of the options; None writes them as YAML.
        is_from_nothing: Whether it makes the models that it trains.
        grows: Whether it adds layers to models in stages.
    """

    name: str
    title: str
    file_name: str
    rules: Mapping[str, Rule]
    check: Check
    finish: Callable[[Facts], Mapping[str, Any]]
    command: Callable[[Facts], str]
    losses: Callable[[Facts], Iterator[ExportLine]] = lambda _: iter(())
    files: Callable[[Facts], Mapping[str, str]] = lambda _: {}
    layout: Callable[[Mapping[str, Any]], str] | None = None
    is_from_nothing: bool = False
    grows: bool = False

    def write(self, facts: Facts) -> Exported:
        """Return the file and the report; raises ConfigError for a method it does not have."""
        options, report = self.walk(facts)
        command = self.command(facts)
        text = self.layout(options) if self.layout else _as_file(command, options)
        return Exported(
            self.name, self.title, self.file_name, text, command, report, facts.data,
            self.files(facts),
        )  # fmt: skip

    def _makes_no_models(self) -> Problem:
        what = f"{self.title} does not train models from nothing as they are here."
        remedy = "Export them to nanochat, or set pretraining.enabled to false."
        return Problem("pretraining.enabled", what, remedy)

    def _adds_no_layers(self) -> Problem:
        what = f"{self.title} does not add layers to a model in stages."
        return Problem("progressive.enabled", what, "Export it to Stack-Wise, or set it to false.")

    def walk(self, facts: Facts) -> tuple[dict[str, Any], tuple[ExportLine, ...]]:
        """Return the options and the report; raises ConfigError for a method it does not have."""
        problems = list(self.check(facts))
        if facts.config.progressive.enabled and not self.grows:
            problems = [self._adds_no_layers()]
        elif facts.config.pretraining.enabled and not self.is_from_nothing:
            problems = [self._makes_no_models()]
        if problems:
            raise ConfigError(problems)
        options: dict[str, Any] = {}
        report: list[ExportLine] = []
        unused = _without_effect(facts)
        for name, rule in self.rules.items():
            written = unused[name] if name in unused else rule(facts.values[name], facts)
            options |= written.options
            report.append(_line(name, facts.values[name], written))
            report += _inner_lines(name, written)
        options |= self.finish(facts)
        report += self.losses(facts)
        return options, tuple(report)


@dataclass(frozen=True)
class SourceList(Written):
    """Data sources as options, with (index, name, value, written) for each of their settings."""

    lines: tuple[tuple[int, str, Any, Written], ...] = ()


def written_sources(
    option: str, sources: list[Source], rules: Mapping[str, str], facts: Facts, why: str = ""
) -> SourceList:
    """Return a list of sources whose settings have these names there; others are left out."""
    entries, lines = [], []
    for index, source in enumerate(sources):
        entry: dict[str, Any] = {}
        for name in set_fields(source):
            value = facts.path(source) if name == "path" else getattr(source, name)
            written = Written(why="A source has no such option.", is_lost=True)
            if name in rules:
                entry[rules[name]] = value
                written = Written({rules[name]: value})
            lines.append((index, name, value, written))
        entries.append(entry)
    return SourceList({option: entries} if entries else {}, why, lines=tuple(lines))


def set_fields(source: Source) -> list[str]:
    """Return the settings of a source that differ from their defaults, in their order."""
    fields = type(source).model_fields
    return [name for name in fields if getattr(source, name) != fields[name].get_default()]


def _without_effect(facts: Facts) -> dict[str, Written]:
    """Return the settings that have no effect with the others, which no system has to know."""
    values = {name: facts.values[name] for name in specs_by_name()}
    return {
        name: Written(why=f"Used {describe_conditions(name)}.".replace("Used with", "Only with"))
        for name in inapplicable_settings(values)
        if name not in ALWAYS_WRITTEN
    }


def _as_file(command: str, options: Mapping[str, Any]) -> str:
    """Return the options as YAML, below the command that reads them."""
    return f"# {command}\n{_yaml({name: options[name] for name in _ordered(options)})}"


def _yaml(options: Mapping[str, Any]) -> str:
    """Return YAML 1.1, as these systems read it: there `no` without quotes is false."""
    return yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True, width=100)


def _line(name: str, value: Any, written: Written) -> ExportLine:
    shown = [source.path for source in value] if name.endswith("sources") else value
    return ExportLine(name, shown, written.result, ", ".join(written.options), written.why)


def _inner_lines(name: str, written: Written) -> Iterator[ExportLine]:
    if isinstance(written, SourceList):
        for index, inner, value, each in written.lines:
            yield _line(f"{name}[{index}].{inner}", value, each)


# Options that stand first in a file; the others follow in the order of our settings.
_FIRST = ("model", "model_name_or_path", "base_model", "stage", "finetuning_type", "rl")


def _ordered(options: Mapping[str, Any]) -> list[str]:
    first = [name for name in _FIRST if name in options]
    return [*first, *(name for name in options if name not in first)]
