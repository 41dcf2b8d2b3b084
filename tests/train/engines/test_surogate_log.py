"""The log of Surogate is read while it is written."""

from __future__ import annotations

import json

from modelforge.train.engines.surogate_log import EngineLog, finite, number
from tests.train.engines.surogate_stand_in import Log


def test_entries_are_read_once_as_they_are_added(tmp_path):
    path = tmp_path / "log.json"
    log, reader = Log(path), EngineLog(path)
    assert reader.read() == ([], False)
    log.add(log="step", step=0)
    assert reader.read() == ([{"log": "step", "step": 0}], False)
    assert reader.read() == ([], False)
    log.add(log="step", step=1)
    log.add(log="eval", step=2)
    assert [entry["step"] for entry in reader.read()[0]] == [1, 2]
    assert [entry["step"] for entry in json.loads(path.read_text("utf-8"))] == [0, 1, 2]


def test_an_entry_that_is_still_written_is_left(tmp_path):
    path = tmp_path / "log.json"
    path.write_text('[\n  {"log": "step", "step": 0},\n  {"log": "st', "utf-8")
    reader = EngineLog(path)
    assert [entry["step"] for entry in reader.read()[0]] == [0]
    path.write_text('[\n  {"log": "step", "step": 0},\n  {"log": "step", "step": 1}\n]\n', "utf-8")
    assert [entry["step"] for entry in reader.read()[0]] == [1]


def test_json_lines_are_read_too(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"log": "step", "step": 0}\n{"log": "step", "step": 1}\n', "utf-8")
    assert [entry["step"] for entry in EngineLog(path).read()[0]] == [0, 1]


def test_a_log_that_is_begun_anew_is_noticed(tmp_path):
    path = tmp_path / "log.json"
    log, reader = Log(path), EngineLog(path)
    for step in range(3):
        log.add(log="step", step=step)
    reader.read()
    Log(path).add(log="step", step=0)
    assert reader.read() == ([{"log": "step", "step": 0}], True)


def test_numbers_that_are_not_finite_are_text_there():
    assert number({"loss": "nan"}, "loss") != number({"loss": "nan"}, "loss")
    assert number({"loss": "-inf"}, "loss") == float("-inf")
    assert number({"loss": "text"}, "loss") is number({}, "loss") is number({"loss": True}, "loss")
    assert finite({"norm": "inf"}, "norm") is None
    assert finite({"norm": 0.5}, "norm") == 0.5
