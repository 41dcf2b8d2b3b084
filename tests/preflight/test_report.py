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


@pytest.mark.parametrize(
    ("settings", "quantized"),
    [
        ({"use_4bit": True}, 4.5),
        ({"use_4bit": True, "use_nested_quant": True}, 4.127),
        ({"use_4bit": False, "use_8bit": True}, 8.08),
        ({"use_4bit": False, "quantization": {"scheme": "int8-weight-only"}}, 8.08),
        ({"use_4bit": False}, None),
        ({"use_4bit": False, "adapter": {"enabled": False}}, None),
    ],
)
def test_bits_per_weight_count_scales_and_what_is_not_quantized(settings, quantized):
    report = report_of(make_context(WORKSTATION, LLAMA_8B, **settings))
    assert report.quantized_bits == quantized
    if quantized:
        weights = next(part.gib for part in report.memory if part.name == "weights")
        bits = 8 * weights * 2**30 / LLAMA_8B.parameters
        assert quantized < report.weight_bits == pytest.approx(bits, abs=0.001)
    skipped = settings | {"quantization": {**settings.get("quantization", {}),
                                           "skip_first_layers": 4}}  # fmt: skip
    if quantized:
        assert report_of(make_context(WORKSTATION, LLAMA_8B, **skipped)).weight_bits > (
            report.weight_bits
        )


def test_a_report_becomes_json_with_all_its_parts():
    data = json.loads(json.dumps(report_of(make_context(use_4bit=True)).as_dict()))
    assert data["blocked"] is False
    assert {part["name"] for part in data["memory"]} >= {"weights", "logits"}
    assert {"level", "code", "what", "remedy", "where", "suggested"} == set(data["findings"][0])
