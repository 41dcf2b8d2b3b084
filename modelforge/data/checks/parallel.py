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

from modelforge.data.checks.counters import PLACES, Tally
from modelforge.data.checks.findings import Faults
from modelforge.data.checks.rows import Inspector, Terms
from modelforge.data.columns.detect import Mapping
from modelforge.data.formats.errors import OnFault, UnreadableError
from modelforge.data.formats.json import json_lines, shape_of
from modelforge.data.formats.read import rows_of_source
from modelforge.data.formats.sniff import Source, recognise
from modelforge.errors import Problem, RunError

LARGE = 64 * 2**20
PROCESSES = 2
_MOST_KNOWN = 2
_KNOWN: dict[tuple[str, int, int, bytes], tuple[Tally, Faults]] = {}


def count_rows(source: Source, terms: Terms, on_fault: OnFault | None = None) -> Tally:
    """Return the tally of the whole file; faults are told, or the first one is raised."""
    if is_large(source):
        return _remembered(source, terms, on_fault)
    if source.format == "json" and shape_of(source) == "lines":
        with source.open() as stream:
            tally = count_lines(source, stream, terms, on_fault)
    else:
        inspector = Inspector(terms)
        for line, data in rows_of_source(source, on_fault):
            inspector.take(line, data)
        tally = inspector.tally
    tally.count_copies()
    return tally


def is_large(source: Source) -> bool:
    """Whether it is worth counting the file in several processes, and possible."""
    return (
        source.format == "json"
        and source.plain
        and source.path.stat().st_size > LARGE
        and (os.cpu_count() or 1) > 1
        and shape_of(source) == "lines"
    )


def count_large(files: Sequence[Path], mapping: Mapping) -> Tally | None:
    """Return the tally of a large file, or nothing where it is not worth it.

    Raises the first fault, after all of the file has been counted for the doctor.
    """
    if len(files) != 1:
        return None
    source = recognise(files[0])
    return count_rows(source, Terms(mapping)) if is_large(source) else None


def _remembered(source: Source, terms: Terms, on_fault: OnFault | None) -> Tally:
    """Return the tally of a large file; that of a file looked at just before is still known."""
    stat = source.path.stat()
    key = (str(source.path), stat.st_size, stat.st_mtime_ns, orjson.dumps(asdict(terms)))
    counted = _KNOWN.get(key)
    if counted is None:
        counted = _in_processes(source, terms)
        counted[0].count_copies()
        while len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.pop(next(iter(_KNOWN)), None)
        _KNOWN[key] = counted
    tally, faults = counted
    faults.told(on_fault)
    return deepcopy(tally)


def count_lines(
    source: Source, stream: Any, terms: Terms, on_fault: OnFault | None = None
) -> Tally:
    """Return the tally of lines of JSON, which can be looked at as they stand."""
    inspector = Inspector(terms)
    take = inspector.take
    for (line, data), raw in json_lines(source, stream, on_fault):
        take(line, data, raw)
    return inspector.tally


def _in_processes(source: Source, terms: Terms) -> tuple[Tally, Faults]:
    parts = [
        {"path": str(source.path), "begin": begin, "end": end, "terms": asdict(terms)}
        for begin, end in parts_of(source.path, source.bom, PROCESSES)
    ]
    command = [sys.executable, "-m", "modelforge.data.checks.parallel"]
    # The package is found where this one was, whatever the folder.
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
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


def _added(children: list[subprocess.Popen[bytes]], source: Source) -> tuple[Tally, Faults]:
    whole, faults = Tally(), Faults()
    for child in children:
        assert child.stdout is not None
        answer = child.stdout.read()
        if not answer:
            what = f"{source.name} could not be counted: a process of the check ended."
            raise RunError(Problem("dataset", what, "Close other programs and try again."))
        said = orjson.loads(answer)
        for fault in said["faults"]:
            faults.met(_moved(fault, whole.lines, source.name), fault["count"])
        prints, lines = (base64.b64decode(said[name]) for name in ("prints", "print_lines"))
        whole.add(Tally.from_dict(said["tally"], prints, lines))
    return whole, faults


def parts_of(path: Path, begin: int, count: int) -> list[tuple[int, int]]:
    """Return `count` parts of a file from `begin` on, each ending behind a line."""
    size = path.stat().st_size
    marks = [begin]
    with path.open("rb") as file:
        for number in range(1, count):
            file.seek(begin + (size - begin) * number // count)
            while (line := file.readline(2**20)) and not line.endswith(b"\n"):
                pass
            marks.append(max(marks[-1], file.tell()))
    marks.append(size)
    return list(pairwise(marks))


class _Part:
    """The lines of one part of a file, as far as `json_lines` reads from it."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._file = path.open("rb", buffering=2**20)
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


def _moved(fault: dict[str, Any], lines: int, name: str) -> UnreadableError:
    line = fault["line"] + lines
    where = f"{name}, line {line}"
    if fault["column"] is not None:
        where += f", column {fault['column']}"
    problem = Problem(where, fault["what"], fault["remedy"])
    return UnreadableError(problem, fault["code"], line, fault["column"])


def _main() -> None:
    asked = orjson.loads(sys.stdin.buffer.read())
    source = Source(Path(asked["path"]), "json")
    terms = Terms(**asked["terms"] | {"mapping": Mapping.from_dict(asked["terms"]["mapping"])})
    faults = Faults()
    part = _Part(source.path, asked["begin"], asked["end"])
    tally = count_lines(source, part, terms, faults.met)
    tally.lines = part.lines
    answer = {
        "tally": tally.as_dict(),
        "faults": list(_plain(faults)),
        "prints": base64.b64encode(tally.prints.tobytes()).decode(),
        "print_lines": base64.b64encode(tally.print_lines.tobytes()).decode(),
    }
    sys.stdout.buffer.write(orjson.dumps(answer))


def _plain(faults: Faults) -> Iterator[dict[str, Any]]:
    """Yield the faults that were kept; the last of a code stands for all that were not."""
    more = {code: max(0, count - PLACES) for code, count in faults.counts.items()}
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
