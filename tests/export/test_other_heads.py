"""Exports of encoder-decoders and of extractive QA."""

from __future__ import annotations

import pytest

from modelforge.runs.exports import ExportRequest
from tests.export.runs import exported, put_tuned
from tests.train.conftest import tiny_reader, tiny_rewriter  # noqa: F401

pytestmark = pytest.mark.torch


def test_an_encoder_decoder_is_merged(tiny_rewriter, tmp_path):  # noqa: F811
    lora = {"target_modules": ["q", "v"], "task_type": "SEQ_2_SEQ_LM"}
    run = put_tuned(
        tmp_path / "home", tiny_rewriter, auto="AutoModelForSeq2SeqLM", lora=lora, method="seq2seq"
    )
    result = exported(tmp_path / "home", ExportRequest(run.id, "merged")).result()
    assert result.problem is None
    assert result.self_test["same_text"] == 20
    assert result.self_test["max_logit_difference"] < 1e-3


def test_a_reader_is_merged_with_the_head_that_was_trained(tiny_reader, tmp_path):  # noqa: F811
    lora = {
        "target_modules": ["query", "value"],
        "task_type": "QUESTION_ANS",
        "modules_to_save": ["qa_outputs"],
    }
    run = put_tuned(
        tmp_path / "home", tiny_reader, auto="AutoModelForQuestionAnswering", lora=lora,
        method="span",
    )  # fmt: skip
    folder = exported(tmp_path / "home", ExportRequest(run.id, "merged"))
    result = folder.result()
    assert result.problem is None
    assert result.self_test["same_text"] == 20
    assert result.self_test["max_logit_difference"] < 1e-3
