"""A log is kept short while its worker writes to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from modelforge.runs.process.lock import exclusive
from modelforge.runs.process.log_rotation import (
    HEAD_BYTES,
    MAX_BYTES,
    MAX_ERROR_BYTES,
    TAIL_BYTES,
    lock_path,
    log_error,
    trim_log,
)

BOUNDS = {"limit": 10_000, "head": 1_000, "tail": 4_000}


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(first, first + count))


def test_a_short_log_is_left_alone(tmp_path):
    log = tmp_path / "worker.log"
    log.write_bytes(lines(100))
    assert not trim_log(log, **BOUNDS)
    assert log.read_bytes() == lines(100)


def test_a_log_that_is_not_there_is_no_matter(tmp_path):
    assert not trim_log(tmp_path / "worker.log")


def test_a_long_log_keeps_whole_lines_of_its_beginning_and_its_end(tmp_path):
    log = tmp_path / "worker.log"
    log.write_bytes(lines(5_000))
    assert trim_log(log, **BOUNDS)
    kept = log.read_bytes().splitlines(keepends=True)
    middle = next(place for place, line in enumerate(kept) if b"were removed" in line)
    assert b"".join(kept[:middle]) == lines(middle)
    after = kept[middle + 1 :]
    assert b"".join(after) == lines(len(after), 5_000 - len(after))
    assert 1_000 <= len(b"".join(kept[:middle])) < 1_100
    assert 3_900 < len(b"".join(after)) <= 4_000
    left_out = 5_000 * 12 - len(b"".join(kept[:middle])) - len(b"".join(after))
    assert f"{left_out:,} bytes" in kept[middle].decode()
    assert not trim_log(log, **BOUNDS)


def test_a_log_without_lines_is_shortened_too(tmp_path):
    log = tmp_path / "worker.log"
    log.write_bytes(b"\r progress" * 5_000)
    assert trim_log(log, **BOUNDS)
    assert log.stat().st_size < BOUNDS["limit"]


def test_whoever_writes_goes_on_behind_what_is_kept(tmp_path):
    log = tmp_path / "worker.log"
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(writer, lines(5_000))
        assert trim_log(log, **BOUNDS)
        os.write(writer, b"the next line\n")
    finally:
        os.close(writer)
    text = log.read_bytes()
    assert text.endswith(b"line 004999\nthe next line\n")
    assert b"\0" not in text


def test_a_log_that_another_server_shortens_is_left_to_it(tmp_path):
    log = tmp_path / "worker.log"
    log.write_bytes(lines(5_000))
    outcomes = []
    with exclusive(lock_path(log)):
        other = threading.Thread(target=lambda: outcomes.append(trim_log(log, **BOUNDS)))
        other.start()
        other.join()
    assert outcomes == [False]
    assert log.stat().st_size == 60_000


def test_a_log_under_a_flood_stays_whole_lines_with_the_newest_at_its_end(tmp_path):
    log = tmp_path / "worker.log"
    flood = "import sys\nfor n in range(60_000): sys.stdout.write('line %06d\\n' % n)"
    with log.open("ab") as file, subprocess.Popen([sys.executable, "-c", flood], stdout=file) as it:
        while it.poll() is None:
            trim_log(log, **BOUNDS)
    trim_log(log, **BOUNDS)
    assert log.read_bytes().endswith(lines(10, 59_990))
    assert log.stat().st_size <= BOUNDS["limit"]


def test_a_log_of_errors_has_a_limited_size(tmp_path):
    log = tmp_path / "logs" / "server.log"
    log_error(log, ValueError("the first"))
    with log.open("ab") as file:
        file.write(lines(MAX_BYTES // 12))
    log_error(log, ValueError("long " * MAX_ERROR_BYTES))
    log_error(log, ValueError("the last"))
    text = log.read_text("utf-8")
    assert "ValueError: the first" in text
    assert text.endswith("ValueError: the last\n\n")
    assert len(text) < HEAD_BYTES + TAIL_BYTES + 4 * MAX_ERROR_BYTES
