"""A whole data file counted: large files of lines in two processes, all others on the way.

`python -m modelforge.data.checks.parallel` counts one part of a file; the processes run it.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from modelforge.data.checks.counters import MAX_PLACES, Counters
from modelforge.data.checks.findings import ReadErrors
from modelforge.data.checks.rows import CheckOptions, RowChecker
from modelforge.data.columns.detect import ColumnMapping
from modelforge.data.formats.errors import OnReadError, ReadError
from modelforge.data.formats.json import detect_layout, read_json_lines
from modelforge.data.formats.read import read_file_rows
from modelforge.data.formats.sniff import DataFile, sniff_file
from modelforge.errors import Problem, RunError
from modelforge.paths import PROJECT_ROOT
from modelforge.units import MIB

LARGE_BYTES = 64 * MIB
PROCESSES = 2
_MOST_KNOWN = 2
_KNOWN: dict[tuple[str, int, int, bytes], tuple[Counters, ReadErrors]] = {}


def count_rows(
    source: DataFile, terms: CheckOptions, on_fault: OnReadError | None = None
) -> Counters:
    """Return the tally of the whole file; faults are told, or the first one is raised."""
    if is_large(source):
        return _remembered(source, terms, on_fault)
    if source.format == "json" and detect_layout(source) == "lines":
        with source.open() as stream:
            tally = count_lines(source, stream, terms, on_fault)
    else:
        inspector = RowChecker(terms)
        for line, data in read_file_rows(source, on_fault):
            inspector.check(line, data)
        tally = inspector.tally
    tally.count_duplicates()
    return tally


def is_large(source: DataFile) -> bool:
    """Whether it is worth counting the file in several processes, and possible."""
    return (
        source.format == "json"
        and source.is_plain_utf8
        and source.path.stat().st_size > LARGE_BYTES
        and (os.cpu_count() or 1) > 1
        and detect_layout(source) == "lines"
    )


def count_large(files: Sequence[Path], mapping: ColumnMapping) -> Counters | None:
    """Return the tally of a large file, or nothing where it is not worth it.

    Raises the first fault, after all of the file has been counted for the doctor.
    """
    if len(files) != 1:
        return None
    source = sniff_file(files[0])
    return count_rows(source, CheckOptions(mapping)) if is_large(source) else None


def _remembered(source: DataFile, terms: CheckOptions, on_fault: OnReadError | None) -> Counters:
    """Return the tally of a large file; that of a file looked at just before is still known."""
    stat = source.path.stat()
    key = (str(source.path), stat.st_size, stat.st_mtime_ns, orjson.dumps(asdict(terms)))
    counted = _KNOWN.get(key)
    if counted is None:
        counted = _in_processes(source, terms)
        counted[0].count_duplicates()
        while len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.pop(next(iter(_KNOWN)), None)
        _KNOWN[key] = counted
    tally, faults = counted
    faults.replay(on_fault)
    return deepcopy(tally)


def count_lines(
    source: DataFile, stream: Any, terms: CheckOptions, on_fault: OnReadError | None = None
) -> Counters:
    """Return the tally of lines of JSON, which can be looked at as they stand."""
    inspector = RowChecker(terms)
    take = inspector.check
    for (line, data), raw in read_json_lines(source, stream, on_fault):
        take(line, data, raw)
    return inspector.tally


def _in_processes(source: DataFile, terms: CheckOptions) -> tuple[Counters, ReadErrors]:
    parts = [
        {"path": str(source.path), "begin": begin, "end": end, "terms": asdict(terms)}
        for begin, end in parts_of(source.path, source.bom, PROCESSES)
    ]
    command = [sys.executable, "-m", "modelforge.data.checks.parallel"]
    # The package is found where this one was, whatever the folder.
    paths = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    children = []
    try:
        for part in parts:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            children.append(child)
            assert child.stdin is not None
            child.stdin.write(orjson.dumps(part))
            child.stdin.close()
        return _added(children, source)
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _added(
    children: list[subprocess.Popen[bytes]], source: DataFile
) -> tuple[Counters, ReadErrors]:
    whole, faults = Counters(), ReadErrors()
    for child in children:
        assert child.stdout is not None
        answer = child.stdout.read()
        if not answer:
            what = f"{source.name} could not be counted: a process of the check ended."
            raise RunError(Problem("dataset", what, "Close other programs and try again."))
        said = orjson.loads(answer)
        for fault in said["faults"]:
            faults.add(_moved(fault, whole.lines, source.name), fault["count"])
        prints, lines = (base64.b64decode(said[name]) for name in ("prints", "print_lines"))
        whole.merge(Counters.from_dict(said["tally"], prints, lines))
    return whole, faults


def parts_of(path: Path, begin: int, count: int) -> list[tuple[int, int]]:
    """Return `count` parts of a file from `begin` on, each ending behind a line."""
    size = path.stat().st_size
    marks = [begin]
    with path.open("rb") as file:
        for number in range(1, count):
            file.seek(begin + (size - begin) * number // count)
            while (line := file.readline(MIB)) and not line.endswith(b"\n"):
                pass
            marks.append(max(marks[-1], file.tell()))
    marks.append(size)
    return list(pairwise(marks))


class _Part:
    """The lines of one part of a file, as far as `json_lines` reads from it."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._file = path.open("rb", buffering=MIB)
        self._file.seek(begin)
        self._left = end - begin
        self.lines = 0

    def readline(self, limit: int) -> bytes:
        """Return the next line of the part; empty at its end."""
        line = self._file.readline(min(limit, self._left))
        self._left -= len(line)
        if line.endswith(b"\n"):
            self.lines += 1
        return line


def _moved(fault: dict[str, Any], lines: int, name: str) -> ReadError:
    line = fault["line"] + lines
    where = f"{name}, line {line}"
    if fault["column"] is not None:
        where += f", column {fault['column']}"
    problem = Problem(where, fault["what"], fault["remedy"])
    return ReadError(problem, fault["code"], line, fault["column"])


def _main() -> None:
    asked = orjson.loads(sys.stdin.buffer.read())
    source = DataFile(Path(asked["path"]), "json")
    terms = CheckOptions(
        **asked["terms"] | {"mapping": ColumnMapping.from_dict(asked["terms"]["mapping"])}
    )
    faults = ReadErrors()
    part = _Part(source.path, asked["begin"], asked["end"])
    tally = count_lines(source, part, terms, faults.add)
    tally.lines = part.lines
    answer = {
        "tally": tally.as_dict(),
        "faults": list(_plain(faults)),
        "prints": base64.b64encode(tally.fingerprints.tobytes()).decode(),
        "print_lines": base64.b64encode(tally.fingerprint_lines.tobytes()).decode(),
    }
    sys.stdout.buffer.write(orjson.dumps(answer))


def _plain(faults: ReadErrors) -> Iterator[dict[str, Any]]:
    """Yield the faults that were kept; the last of a code stands for all that were not."""
    more = {code: max(0, count - MAX_PLACES) for code, count in faults.counts.items()}
    last = {fault.code: fault for fault in faults.kept}
    for fault in faults.kept:
        (problem,) = fault.problems
        yield {
            "code": fault.code,
            "line": fault.line,
            "column": fault.column,
            "what": problem.what,
            "remedy": problem.remedy,
            "count": 1 + (more[fault.code] if last[fault.code] is fault else 0),
        }


if __name__ == "__main__":
    _main()
