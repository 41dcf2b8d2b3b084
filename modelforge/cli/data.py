"""`modelforge data inspect|check|repair|tokens|fetch`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, WRONG_INPUT, escape_control, print_json, print_table
from modelforge.cli.parsing import (
    UNUSABLE_PATH,
    OpenForge,
    add_settings,
    command_group,
    confirm,
    parse_assignments,
)
from modelforge.errors import ForgeError
from modelforge.units import MIB

if TYPE_CHECKING:
    from modelforge.config.schema.data import Source
    from modelforge.forge import Forge
    from modelforge.services.datasets import DatasetService

Act = Callable[[argparse.Namespace, "DatasetService"], int]
MAX_TEXT_LENGTH = 160
MAX_SUMMARY_BYTES = 64 * MIB


def add(commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    """Add the command `data` to the parser."""
    about = "Inspect, check, repair and tokenize datasets."
    new_command = command_group(commands, "data", about, shared, open_forge)

    def new(name: str, act: Act, about: str) -> argparse.ArgumentParser:
        def with_datasets(options: argparse.Namespace, forge: Forge) -> int:
            with closing(forge):
                return act(options, forge.datasets)

        return new_command(name, with_datasets, about)

    inspect = new("inspect", _inspect, "Show the first rows and how they are read.")
    inspect.add_argument("--rows", type=_count, default=5, help="number of rows (5)")
    check = new(
        "check", _check, "Check every row. Exit code 2 if the data cannot be used for training."
    )
    against = "evaluation data; rows found in both are reported; may be repeated"
    longest = "maximum sequence length in tokens; longer rows are reported"
    check.add_argument("--max-seq-length", type=_count, metavar="N", help=longest)
    check.add_argument("--against", action="append", default=[], metavar="FILE", help=against)
    repair = new("repair", _repair, "Write a repaired copy. The original is not changed.")
    repair.add_argument("--code", action="append", help="repair only this finding; may be repeated")
    consent = "remove more than 2 %% of the rows without asking"
    repair.add_argument("--yes", action="store_true", help=consent)
    tokens = new("tokens", _tokens, "Show tokenized rows.")
    tokens.add_argument(
        "--model", default="starter", help="model whose tokenizer is used (starter)"
    )
    tokens.add_argument("--row", type=int, default=0, help="first row, from 0")
    tokens.add_argument("--rows", type=_count, default=1, help="number of rows (1)")
    lengths = "show the lengths of all rows instead"
    tokens.add_argument("--lengths", action="store_true", help=lengths)
    add_settings(tokens)
    for command in (inspect, check, repair, tokens):
        _add_source(command)
    fetch = new("fetch", _fetch, "Download data of the Hub, S3 or Google Cloud to use it here.")
    fetch.add_argument("name", help="OWNER/NAME, s3://BUCKET/FILE or gs://BUCKET/FILE")
    fetch.add_argument("--subset", help="configuration, such as en")
    fetch.add_argument("--split", default="train", help="split, such as train or train[:10%%]")


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", nargs="+", help="data file, folder, sample:NAME, or OWNER/NAME of the Hub"
    )
    fields = "how rows are read, as output_field=reply; may be repeated"
    command.add_argument(
        "--field", "-f", action="append", default=[], metavar="KEY=VALUE", help=fields
    )


def _inspect(options: argparse.Namespace, datasets: DatasetService) -> int:
    sources = _sources(options, datasets)
    preview = datasets.preview(sources, first=options.rows)
    summary = datasets.summarize_head(sources)
    is_whole = summary.size_bytes <= MAX_SUMMARY_BYTES
    if is_whole:
        summary = datasets.summarize(sources)
    if options.json:
        values = vars(summary) | {"preview": preview["rows"], "whole": is_whole}
        values.pop("examples")
        return print_json(values)
    rows = f"{summary.rows:,} rows" if is_whole else "the first rows (`check` reads all)"
    print(f"{escape_control(summary.name)}: {rows}. {escape_control(summary.mapping.reason)}")
    for row in preview["rows"]:
        print(f"\n{escape_control(row['file'])}, line {row['line']}")
        if row["reads"] is None:
            print(f"  cannot be read: {row['why']}")
        for part, text in _parts(row["reads"] or row["raw"]):
            print(f"  {escape_control(part)}: {_shortened(text)}")
    for finding in summary.findings:
        text = escape_control(f"{finding.what} {finding.remedy}".rstrip())
        print(f"\n{finding.level:<9} {text}")
    return DONE


def _check(options: argparse.Namespace, datasets: DatasetService) -> int:
    try:
        against = [
            source for file in options.against for source in datasets.parse_sources(_resolved(file))
        ]
        reports = datasets.check(_sources(options, datasets), against, options.max_seq_length)
    except ForgeError as error:
        if not options.json:
            raise
        problems = [problem.as_dict() for problem in error.problems]
        print_json({"trainable": False, "problems": problems, "files": []})
        return error.exit_code
    trainable = not any(report.blocked for report in reports)
    if options.json:
        files = [report.as_dict() for report in reports]
        print_json({"trainable": trainable, "problems": [], "files": files})
    else:
        _print_findings(reports)
        verb = "can" if trainable else "cannot"
        print(f"The data {verb} be used for training.")
    return DONE if trainable else WRONG_INPUT


def _print_findings(reports: list[Any]) -> None:
    rows = []
    for report in reports:
        for finding in report.findings:
            hint = _repair_hint(finding)
            text = f"{finding.file}: {finding.what} {finding.remedy}"
            rows.append((finding.level, text.rstrip() + hint))
    if rows:
        print_table(rows)


def _repair_hint(finding: Any) -> str:
    """Return what the repair would do: fix and remove so many rows."""
    if not finding.repair:
        return ""
    if finding.fixes is None:
        return " (can be repaired)"
    done = [
        f"{verb} {count:,}"
        for verb, count in (("fixes", finding.fixes), ("removes", finding.removes))
        if count
    ]
    tried = f" of the {finding.tried:,} rows it was tried on" if finding.tried else ""
    return f" (repair {' and '.join(done)}{tried})"


def _repair(options: argparse.Namespace, datasets: DatasetService) -> int:
    from modelforge.data.repair.log import RemovalError

    sources = _sources(options, datasets)
    try:
        files = datasets.repair(sources, options.code, allow_removal=options.yes)
    except RemovalError as error:
        if options.json or not _agrees(error):
            raise
        files = datasets.repair(sources, options.code, allow_removal=True)
    if options.json:
        return print_json(files)
    for file in files:
        print(escape_control(f"{file.original} → {file.path} ({file.rows:,} rows)"))
        print_table((f"  {code}", f"{count:,}") for code, count in file.changes.items())
        print(f"  {file.fixed:,} rows fixed, {file.removed:,} removed; see {file.report.name}")
    return DONE


def _agrees(error: ForgeError) -> bool:
    """Ask at the terminal; return False without a terminal."""
    what = "; ".join(f"{problem.where} {problem.what}" for problem in error.problems)
    return confirm(f"{escape_control(what)}\nRemove these rows from the copy?")


def _tokens(options: argparse.Namespace, datasets: DatasetService) -> int:
    from modelforge.config.resolve import Layer

    values = parse_assignments(options.set, "--set") | {"model_name": options.model}
    sources = [source.model_dump(exclude_unset=True) for source in _sources(options, datasets)]
    layers = datasets.layers(sources[0]["path"], Layer("you", values | {"data.sources": sources}))
    if options.lengths:
        lengths = datasets.lengths(*layers)
        return print_json(lengths) if options.json else _print_lengths(lengths)
    page = datasets.tokens(*layers, row=options.row, count=options.rows)
    return print_json(page) if options.json else _print_tokens(page)


def _print_tokens(page: dict[str, Any]) -> int:
    for row in page["rows"]:
        if row.get("name"):
            print(escape_control(row["name"]))
        for role, pieces in groupby(row["pieces"], key=lambda piece: piece["role"]):
            texts = [piece["text"] for piece in pieces]
            print(f"{role:<8} {len(texts):>5}  {escape_control(''.join(texts))}")
        print()
    for note in page.get("notes", ()):
        print(escape_control(note["text"]))
    print("  ".join(f"{name} {count:,}" for name, count in page["totals"].items()))
    return DONE


def _print_lengths(lengths: dict[str, Any]) -> int:
    rows = [
        (name.replace("_", " "), str(value))
        for name, value in lengths.items()
        if not isinstance(value, list | dict)
    ]
    bins = [
        (f"up to {end:,} tokens", f"{count:,} rows")
        for end, count, *_ in lengths.get("histogram", ())
    ]
    print_table(rows + bins)
    return DONE


def _fetch(options: argparse.Namespace, datasets: DatasetService) -> int:
    def print_progress(progress: dict[str, Any]) -> None:
        text = progress.get("text", "")
        done = f" {progress['done']:,}" if progress.get("done") else ""
        print(f"{escape_control(str(text))}{done}", file=sys.stderr)

    kept = datasets.fetch(
        options.name,
        subset=options.subset,
        split=options.split,
        on_progress=None if options.json else print_progress,
    )
    if options.json:
        return print_json(kept)
    print(f"Downloaded: {escape_control(str(kept.path))}")
    return DONE


def _sources(options: argparse.Namespace, datasets: DatasetService) -> list[Source]:
    fields = parse_assignments(options.field, "--field")
    return [
        source
        for file in options.file
        for source in datasets.parse_sources(_resolved(file), fields)
    ]


def _resolved(file: str) -> str:
    """Return an existing path as an absolute path, anything else unchanged."""
    try:
        path = Path(file).expanduser()
        return str(path.resolve()) if path.exists() else file
    except UNUSABLE_PATH:  # the check of the source says why
        return file


def _parts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if (
            isinstance(value, list)
            and value
            and all(isinstance(message, dict) for message in value)
        ):
            for message in value:
                yield str(message.get("role", name)), message.get("content") or message
        else:
            yield name, value


def _shortened(value: Any) -> str:
    text = escape_control(value if isinstance(value, str) else json.dumps(value, default=str))
    is_short = len(text) <= MAX_TEXT_LENGTH
    return text if is_short else f"{text[:MAX_TEXT_LENGTH]}… ({len(text):,} characters)"


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)
