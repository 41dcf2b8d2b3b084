"""Count a whole data file; large JSON Lines files are counted by two processes.

`python -m modelforge.data.checks.parallel` counts one part of a file in a child process.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from modelforge.data.checks.counters import Counters
from modelforge.data.checks.findings import ReadErrors
from modelforge.data.checks.rows import CheckOptions, RowChecker
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.errors import OnReadError, ReadError
from modelforge.data.formats.json import detect_layout, read_json_lines
from modelforge.data.formats.read import read_file_rows
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
        key = (str(file.path), stat.st_size, stat.st_mtime_ns, orjson.dumps(asdict(options)))
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
    on_error: OnReadError | None = None,
    cache: CountCache | None = None,
) -> Counters:
    """Return the counters of a whole file, with `lines` set to the last line that holds a row.

    Raises the first read error if `on_error` is None.
    """
    if _is_large(file):
        counters, errors = (cache or CountCache()).count(file, options)
        errors.replay(on_error)
    elif file.format == "json" and detect_layout(file) == "lines":
        with file.open() as stream:
            counters = _count_json_lines(file, stream, options, on_error)
    else:
        checker = RowChecker(options)
        counters = checker.counters
        for line, data in read_file_rows(file, on_error):
            checker.check(line, data)
            counters.lines = line
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
    )


def _count_json_lines(
    file: DataFile, stream: Any, options: CheckOptions, on_error: OnReadError | None
) -> Counters:
    checker = RowChecker(options)
    check, counters = checker.check, checker.counters
    for (line, data), raw in read_json_lines(file, stream, on_error):
        check(line, data, raw)
        counters.lines = line
    return counters


def _count_in_processes(file: DataFile, options: CheckOptions) -> _Counted:
    parts = [
        {"path": str(file.path), "begin": begin, "end": end, "options": asdict(options)}
        for begin, end in split_at_lines(file.path, file.bom, PROCESSES)
    ]
    command = [sys.executable, "-m", "modelforge.data.checks.parallel"]
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
        result = orjson.loads(output)
        for error in result["errors"]:
            errors.add(_moved_error(error, counters.lines, file.name), error["count"])
        arrays = [base64.b64decode(text) for text in result["fingerprints"]]
        counters.merge(Counters.from_dict(result["counters"], *arrays))
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


def _moved_error(error: dict[str, Any], lines: int, name: str) -> ReadError:
    line = error["line"] + lines
    where = f"{name}, line {line}"
    if error["column"] is not None:
        where += f", column {error['column']}"
    problem = Problem(where, error["what"], error["remedy"])
    return ReadError(problem, error["code"], line, error["column"])


def _main() -> None:
    request = orjson.loads(sys.stdin.buffer.read())
    file = DataFile(Path(request["path"]), "json")
    mapping = ColumnMapping.from_dict(request["options"]["mapping"])
    options = CheckOptions(**request["options"] | {"mapping": mapping})
    errors = ReadErrors()
    part = _FilePart(file.path, request["begin"], request["end"])
    counters = _count_json_lines(file, part, options, errors.add)
    counters.lines = part.lines
    arrays = (counters.fingerprints, counters.fingerprint_lines)
    result = {
        "counters": counters.as_dict(),
        "errors": list(_errors_as_dicts(errors)),
        "fingerprints": [base64.b64encode(each.tobytes()).decode() for each in arrays],
    }
    sys.stdout.buffer.write(orjson.dumps(result))


def _errors_as_dicts(errors: ReadErrors) -> Iterator[dict[str, Any]]:
    """Yield the errors that were kept; the last of a code also counts those that were not."""
    kept_counts = dict.fromkeys(errors.counts, 0)
    last_of_code = {error.code: error for error in errors.kept}
    for error in errors.kept:
        kept_counts[error.code] += 1
    for error in errors.kept:
        (problem,) = error.problems
        not_kept = errors.counts[error.code] - kept_counts[error.code]
        yield {
            "code": error.code,
            "line": error.line,
            "column": error.column,
            "what": problem.what,
            "remedy": problem.remedy,
            "count": 1 + (not_kept if last_of_code[error.code] is error else 0),
        }


if __name__ == "__main__":
    _main()
