"""Count a whole data file; large JSON Lines files are counted by two processes.

`python -m modelforge.data.checks.parallel` counts one part of a file in a child process. The
request and the result are pickled; both ends of the pipe are this program.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable
from copy import deepcopy
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from modelforge.data.checks.counters import Counters
from modelforge.data.checks.findings import ReadErrors
from modelforge.data.checks.rows import CheckOptions, RowChecker
from modelforge.data.formats.json import RawRow, detect_layout, read_json_lines
from modelforge.data.formats.read import read_raw_rows, tree_kind
from modelforge.data.formats.sniff import DataFile
from modelforge.errors import Problem, RunError
from modelforge.paths import PROJECT_ROOT
from modelforge.units import MIB

LARGE_BYTES = 64 * MIB
PROCESSES = 2
_MAX_CACHED = 2
_Counted = tuple[Counters, ReadErrors]


class CountCache:
    """Remembers the counters of the last large files, until a file changes. Thread-safe."""

    def __init__(self) -> None:
        self._counted: dict[object, _Counted] = {}
        self._lock = threading.Lock()

    def count(self, file: DataFile, options: CheckOptions) -> _Counted:
        """Return the counters and read errors of a large file, counted at most once."""
        stat = file.path.stat()
        key = (str(file.path), stat.st_size, stat.st_mtime_ns, repr(options))
        with self._lock:
            counted = self._counted.get(key)
        if counted is None:
            counted = _count_in_processes(file, options)
            with self._lock:
                while len(self._counted) >= _MAX_CACHED:
                    self._counted.pop(next(iter(self._counted)))
                self._counted[key] = counted
        return deepcopy(counted[0]), counted[1]


def count_rows(
    file: DataFile,
    options: CheckOptions,
    errors: ReadErrors | None = None,
    cache: CountCache | None = None,
    limit: int | None = None,
) -> Counters:
    """Return the counters of a whole file, with `lines` set to the last line that holds a row.

    `errors` collects the read errors; the first is raised if it is None. `limit` is the number of
    rows to count, all if None.
    """
    if limit is None and _is_large(file):
        counters, found = (cache or CountCache()).count(file, options)
        if errors is not None:
            errors.merge(found, 0, file.name)
        elif found.kept:
            raise found.kept[0]
    else:
        rows = read_raw_rows(file, None if errors is None else errors.add)
        counters = _count(islice(rows, limit), options)
    counters.count_duplicates()
    return counters


def _is_large(file: DataFile) -> bool:
    """Return whether several processes can count the file, and are worth their start."""
    return (
        file.format == "json"
        and file.is_plain_utf8
        and file.path.stat().st_size > LARGE_BYTES
        and (os.cpu_count() or 1) > 1
        and detect_layout(file) == "lines"
        and tree_kind(file) is None
    )


def _count(rows: Iterable[RawRow], options: CheckOptions) -> Counters:
    checker = RowChecker(options)
    check, counters = checker.check, checker.counters
    for (line, data), raw in rows:
        check(line, data, raw)
        counters.lines = line
    return counters


def _count_in_processes(file: DataFile, options: CheckOptions) -> _Counted:
    command = [sys.executable, "-m", "modelforge.data.checks.parallel"]
    paths = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    children = []
    try:
        for begin, end in split_at_lines(file.path, file.bom, PROCESSES):
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            children.append(child)
            assert child.stdin is not None
            pickle.dump((file, begin, end, options), child.stdin)
            child.stdin.close()
        return _merge_results(children, file)
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _merge_results(children: list[subprocess.Popen[bytes]], file: DataFile) -> _Counted:
    counters, errors = Counters(), ReadErrors()
    for child in children:
        assert child.stdout is not None
        output = child.stdout.read()
        if not output:
            what = f"{file.name} could not be counted: a process of the check ended."
            raise RunError(Problem("dataset", what, "Close other programs and try again."))
        part_counters, part_errors = pickle.loads(output)
        errors.merge(part_errors, counters.lines, file.name)
        counters.merge(part_counters)
    return counters, errors


def split_at_lines(path: Path, begin: int, count: int) -> list[tuple[int, int]]:
    """Return `count` byte ranges of a file from `begin` on, each ending at a line end."""
    size = path.stat().st_size
    bounds = [begin]
    with path.open("rb") as file:
        for number in range(1, count):
            file.seek(begin + (size - begin) * number // count)
            while (line := file.readline(MIB)) and not line.endswith(b"\n"):
                pass
            bounds.append(max(bounds[-1], file.tell()))
    bounds.append(size)
    return list(pairwise(bounds))


class _FilePart:
    """A byte range of a file with the part of the stream interface that `read_json_lines` uses."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._file = path.open("rb", buffering=MIB)
        self._file.seek(begin)
        self._left = end - begin
        self.lines = 0

    def readline(self, limit: int) -> bytes:
        """Return the next line; empty at the end of the range."""
        line = self._file.readline(min(limit, self._left))
        self._left -= len(line)
        if line.endswith(b"\n"):
            self.lines += 1
        return line


def _main() -> None:
    file, begin, end, options = pickle.load(sys.stdin.buffer)
    part: Any = _FilePart(file.path, begin, end)
    errors = ReadErrors()
    counters = _count(read_json_lines(file, part, errors.add), options)
    counters.lines = part.lines
    for error in errors.kept:
        error.raw = None
    pickle.dump((counters, errors), sys.stdout.buffer)


if __name__ == "__main__":
    _main()
