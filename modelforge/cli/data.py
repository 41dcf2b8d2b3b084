"""`modelforge data inspect|check|repair|tokens|fetch`: the data questions at a terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import plain
from modelforge.errors import ConfigError, ForgeError, Problem
from modelforge.units import MIB

if TYPE_CHECKING:
    from modelforge.config.schema.data import Source
    from modelforge.forge import Forge
    from modelforge.services.datasets import DatasetService

DONE, WRONG_INPUT = 0, 2
SHOWN = 160
READ_WHOLE = 64 * MIB
_ABOUT = "Look into data: what is in it, what is wrong with it, what the model will see."


def add(commands: Any, shared: argparse.ArgumentParser, open_forge: Callable[..., Forge]) -> None:
    """Add the command `data` to the parser."""
    data = commands.add_parser("data", help=_ABOUT, description=_ABOUT)
    inside = data.add_subparsers(dest="what", required=True, metavar="WHAT")

    def new(name: str, act: Callable[[argparse.Namespace, DatasetService], int], about: str) -> Any:
        command = inside.add_parser(name, help=about, description=about, parents=[shared])
        command.set_defaults(act=lambda options: _with_desk(options, act, open_forge))
        return command

    inspect = new("inspect", _inspect, "Show the first rows, and how they are read.")
    inspect.add_argument("--rows", type=_count, default=5, help="how many rows (5)")
    check = new("check", _check, "Examine every row; exit code 2 when it cannot be trained on.")
    against = "data to check on: rows that stand there as well are told; may be repeated"
    longest = "the longest row in tokens; longer ones are told"
    check.add_argument("--max-seq-length", type=_count, metavar="N", help=longest)
    check.add_argument("--against", action="append", default=[], metavar="FILE", help=against)
    repair = new("repair", _repair, "Write a repaired copy; the original stays as it is.")
    repair.add_argument("--code", action="append", help="mend only this finding; may be repeated")
    tokens = new("tokens", _tokens, "Show rows as the model will see them.")
    tokens.add_argument("--model", default="starter", help="whose tokens (starter)")
    tokens.add_argument("--row", type=int, default=0, help="the first row, from 0")
    tokens.add_argument("--rows", type=_count, default=1, help="how many rows (1)")
    tokens.add_argument("--lengths", action="store_true", help="the lengths of all rows instead")
    tokens.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    for command in inside.choices.values():
        command.add_argument("file", nargs="+", help="data file, folder, sample:NAME or hub:ID")
        command.add_argument(
            *("--field", "-f"),
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="how rows are read, as output_field=reply; may be repeated",
        )
    fetch = new("fetch", _fetch, "Fetch a data set of the Hub, to be used as hub:OWNER/NAME.")
    fetch.add_argument("name", help="OWNER/NAME")
    fetch.add_argument("--subset", help="its configuration, such as en")
    fetch.add_argument("--split", default="train", help="its part, as train or train[:10%%]")


def _with_desk(
    options: argparse.Namespace,
    act: Callable[[argparse.Namespace, DatasetService], int],
    open_forge: Callable[..., Forge],
) -> int:
    forge = open_forge(options)
    try:
        return act(options, forge.datasets)
    finally:
        forge.close()


def _inspect(options: argparse.Namespace, desk: DatasetService) -> int:
    sources = _sources(options, desk)
    shown = desk.preview(sources, first=options.rows)
    look = desk.summarize_head(sources)
    whole = look.size_bytes <= READ_WHOLE
    if whole:
        look = desk.summarize(sources)
    if options.json:
        facts = look.as_dict() | {"preview": shown["rows"], "whole": whole}
        facts.pop("examples")
        return _print_json(facts)
    rows = f"{look.rows:,} rows" if whole else "the first rows (check reads all)"
    print(f"{plain(look.name)}: {rows}. {plain(look.mapping.reason)}")
    for row in shown["rows"]:
        print(f"\n{plain(row['file'])}, line {row['line']}")
        if row["reads"] is None:
            print(f"  cannot be read: {row['why']}")
        for part, text in _parts(row["reads"] or row["raw"]):
            print(f"  {part}: {_short(text)}")
    for finding in look.findings:
        print(f"\n{finding.level:<9} {plain(finding.what)} {plain(finding.remedy)}".rstrip())
    return DONE


def _check(options: argparse.Namespace, desk: DatasetService) -> int:
    try:
        held_out = [one for file in options.against for one in desk.parse_sources(_named(file))]
        diagnoses = desk.check(_sources(options, desk), held_out, options.max_seq_length)
    except ForgeError as error:
        if not options.json:
            raise
        problems = [problem.as_dict() for problem in error.problems]
        _print_json({"trainable": False, "problems": problems, "files": []})
        return error.exit_code
    trainable = not any(each.blocked for each in diagnoses)
    if options.json:
        files = [each.as_dict() for each in diagnoses]
        _print_json({"trainable": trainable, "problems": [], "files": files})
    else:
        _print_findings(diagnoses)
        print("It can be trained on." if trainable else "It cannot be trained on.")
    return DONE if trainable else WRONG_INPUT


def _print_findings(diagnoses: list[Any]) -> None:
    for diagnosis in diagnoses:
        for finding in diagnosis.findings:
            mend = " (repair mends it)" if finding.repair else ""
            text = f"{finding.file}: {finding.what} {finding.remedy}"
            print(f"{finding.level:<9} {plain(text).rstrip()}{mend}")


def _repair(options: argparse.Namespace, desk: DatasetService) -> int:
    done = desk.repair(_sources(options, desk), options.code)
    if options.json:
        return _print_json([each.as_dict() for each in done])
    for each in done:
        print(plain(f"{each.original} → {each.path} ({each.rows:,} rows)"))
        for code, count in each.changes.items():
            print(f"  {code:<24} {count:,}")
    return DONE


def _tokens(options: argparse.Namespace, desk: DatasetService) -> int:
    from modelforge.config.resolve import Layer

    said = _pairs(options.set, "--set") | {"model_name": options.model}
    sources = [source.model_dump(exclude_unset=True) for source in _sources(options, desk)]
    layers = desk.layers(sources[0]["path"], Layer("you", said | {"data.sources": sources}))
    if options.lengths:
        lengths = desk.lengths(*layers)
        return _print_json(lengths) if options.json else _print_lengths(lengths)
    page = desk.tokens(*layers, row=options.row, count=options.rows)
    return _print_json(page) if options.json else _print_tokens(page)


def _print_tokens(page: dict[str, Any]) -> int:
    for row in page["rows"]:
        if row.get("name"):
            print(plain(row["name"]))
        for role, pieces in groupby(row["pieces"], key=lambda piece: piece["role"]):
            run = list(pieces)
            print(f"{role:<8} {len(run):>5}  {plain(''.join(piece['text'] for piece in run))}")
        print()
    for note in page.get("notes", ()):
        print(plain(note["text"]))
    print("  ".join(f"{name} {count:,}" for name, count in page["totals"].items()))
    return DONE


def _print_lengths(told: dict[str, Any]) -> int:
    for name, value in told.items():
        if not isinstance(value, list | dict):
            print(f"{name.replace('_', ' '):<16} {value}")
    for bar in told.get("histogram", ()):
        print(f"  up to {bar[0]:>8,} tokens  {bar[1]:,} rows")
    return DONE


def _fetch(options: argparse.Namespace, desk: DatasetService) -> int:
    def say(progress: dict[str, Any]) -> None:
        text = progress.get("text", "")
        done = f" {progress['done']:,}" if progress.get("done") else ""
        print(f"{plain(str(text))}{done}", file=sys.stderr)

    kept = desk.fetch(
        options.name,
        subset=options.subset,
        split=options.split,
        on_progress=None if options.json else say,
    )
    if options.json:
        return _print_json(kept.as_dict())
    print(f"Fetched: {plain(str(kept.path))}")
    return DONE


def _sources(options: argparse.Namespace, desk: DatasetService) -> list[Source]:
    fields = _pairs(options.field, "--field")
    return [source for file in options.file for source in desk.parse_sources(_named(file), fields)]


def _named(file: str) -> str:
    # A path is taken from where the terminal stands.
    path = Path(file).expanduser()
    return str(path.resolve()) if path.exists() else file


def _pairs(said: list[str], flag: str) -> dict[str, str]:
    pairs = {}
    for pair in said:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(Problem(flag, f"{pair} has no =.", f"Write {flag} key=value."))
        pairs[key.strip()] = value
    return pairs


def _parts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            for turn in value:
                yield str(turn.get("role", name)), turn.get("content") or turn
        else:
            yield name, value


def _short(value: Any) -> str:
    text = plain(value if isinstance(value, str) else json.dumps(value, default=str))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError("give a number from 1 to 1000")
    return number


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2, default=str))
    return DONE
