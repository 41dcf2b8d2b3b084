from __future__ import annotations

import json

import pytest

from tests.preflight.contexts import LAPTOP, LLAMA_8B, WORKSTATION, make_context, report_of


def test_a_report_adds_up_and_holds_what_is_free():
    report = report_of(make_context())
    assert report.memory_total_gib == pytest.approx(sum(part.gib for part in report.memory))
    assert report.memory_available_gib == LAPTOP.ram_free_gib
    assert report.disk_free_gib == LAPTOP.disk_free_gib
    assert report.updates == 40
    assert report.seconds > 0


def test_on_a_card_the_memory_of_the_card_counts():
    report = report_of(make_context(WORKSTATION, LLAMA_8B))
    assert report.memory_available_gib == WORKSTATION.gpus[0].free_gib


def test_a_blocker_blocks_and_a_caution_does_not():
    assert report_of(make_context(fp16=True)).blocked
    assert not report_of(make_context(learning_rate=0.5)).blocked


def test_what_is_known_without_model_and_data_is_reported():
    report = report_of(make_context(info=None, summary=None, fp16=True))
    assert report.blocked
    assert report.memory == []
    assert (report.memory_total_gib, report.seconds, report.updates) == (None, None, None)


def test_a_report_becomes_json_with_all_its_parts():
    data = json.loads(json.dumps(report_of(make_context(use_4bit=True)).as_dict()))
    assert data["blocked"] is False
    assert {part["name"] for part in data["memory"]} >= {"weights", "logits"}
    assert {"level", "code", "what", "remedy", "where", "suggested"} == set(data["findings"][0])
