"""What the self-test reports, and how it meets a llama.cpp that ends."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaForCausalLM

from modelforge.errors import RunError
from modelforge.export import self_test, trained_answers
from modelforge.export.answers import PROMPTS, Answers, choices_file, conversations_of, disk_bytes
from modelforge.export.gguf.check import Measured, divergence
from modelforge.export.gguf.write import write_gguf
from modelforge.export.self_test import KL_BOUNDS, REMEDIES, SelfTest, compare_gguf
from tests.export.trained import HELD_OUT, make_trained

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    return make_trained(tmp_path_factory.mktemp("trained"), tokenizer, answer_tokens=2)


def silent(_share):
    """Ignore the progress."""


def test_the_prompts_are_evaluation_rows_and_general_questions():
    made = conversations_of(HELD_OUT * 5)
    assert len(made) == PROMPTS
    assert made[:3] == [row[:1] for row in HELD_OUT]
    assert made[10:] == conversations_of([])[:10]
    assert len({conversation[-1]["content"] for conversation in conversations_of([])}) == PROMPTS


def test_a_row_that_cannot_be_asked_again_is_left_out():
    alone = [{"role": "assistant", "content": "Hello"}]
    assert conversations_of([alone]) == conversations_of([])


def test_answers_are_read_as_they_were_written(trained):
    again = Answers.load(trained.answers.folder)
    assert again == trained.answers
    for place, known in enumerate(again.prompts):
        rows = again.logits(place)
        assert rows.shape == (len(known.answer) + 1, len(trained.tokenizer))
        assert rows.argmax(axis=1)[: len(known.answer)].tolist() == known.answer
    files = trained.answers.folder.glob("logits-*.npy")
    assert sum(file.stat().st_size for file in files) < disk_bytes(len(trained.tokenizer))


def test_each_token_of_the_answers_is_progress(trained, monkeypatch):
    monkeypatch.setattr(trained_answers, "ANSWER_TOKENS", 4)
    model, shares = LlamaForCausalLM.from_pretrained(trained.base), []
    prompt = trained_answers._prompt(trained.tokenizer, HELD_OUT[0][:1])
    never = len(trained.tokenizer) - 1
    model.lm_head.weight.data[never] = 0
    trained_answers._answer(model, [prompt], [never], shares.append)
    assert shares == [0.125, 0.25, 0.375, 0.5]


def test_a_long_evaluation_row_is_not_asked(trained, tokenizer):
    long = [{"role": "user", "content": "word " * 600}, {"role": "assistant", "content": "No."}]
    prompts = trained_answers._prompts(tokenizer, [long, *HELD_OUT])
    assert max(len(known.prompt) for known in prompts) < 100
    assert prompts[0].messages == HELD_OUT[0][:1]


def test_a_template_that_cannot_be_rendered_is_named(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('No users') }}")
    with pytest.raises(RunError, match=r"chat_template.*cannot render a conversation: No users"):
        trained_answers.render(tokenizer, HELD_OUT[0])


def test_a_model_without_a_template_gets_plain_texts(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    known = trained_answers._prompt(tokenizer, HELD_OUT[0][:1])
    assert known.messages == []
    assert known.text == "What is your name?"


def test_the_divergence_is_that_of_the_definition():
    known, other = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.25])
    expected = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert divergence(known + 3, other) == pytest.approx(expected)


ENDINGS = {
    "open": ("truncated file", "open"),
    "tokens": ("vocabulary", "tokens"),
    "template": ("template", "template"),
    "compute": ("llama.cpp", "compute"),
}


@pytest.mark.parametrize("stage", ENDINGS)
def test_a_crash_of_llama_cpp_is_a_failed_test(stage, trained, tmp_path, monkeypatch):
    """A process that prints its stage and is killed, as by an access to wrong memory."""
    script = (
        f'import os, signal, sys; print(\'{{"stage": "{stage}"}}\', flush=True);'
        "print('GGML_ASSERT failed', file=sys.stderr, flush=True);"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    real = self_test.subprocess.Popen
    monkeypatch.setattr(
        self_test.subprocess,
        "Popen",
        lambda _command, **rest: real([sys.executable, "-c", script], **rest),
    )
    result = compare_gguf(tmp_path / "a.gguf", "f16", trained.answers, silent)
    assert (result.cause, result.remedy) == (ENDINGS[stage][0], REMEDIES[ENDINGS[stage][0]])
    assert f"code {-signal.SIGSEGV}" in result.details[0]
    assert "GGML_ASSERT failed" in result.details[0]
    assert result.kl is None


def test_the_result_names_cause_and_remedy():
    result = SelfTest(prompts=20)
    assert result.passed
    assert result.problem() is None
    result.fail("template", "Prompt 1 is rendered otherwise.")
    result.fail("end token", "It does not stop.")
    problem = result.problem()
    assert "Likely cause: template." in problem.what
    assert problem.remedy == REMEDIES["template"]
    data = json.loads(json.dumps(result.as_dict()))
    assert data["passed"] is False
    assert data["details"] == ["Prompt 1 is rendered otherwise.", "It does not stop."]


def test_equal_weights_with_a_large_divergence_are_a_coarse_quantization(trained, monkeypatch):
    found = Measured(
        vocabulary=10, known_vocabulary=10, end_token=trained.answers.stops[0],
        kl=0.5, same_choices=0.9, weights=0.001,
    )  # fmt: skip
    monkeypatch.setattr(self_test, "_measure", lambda *_arguments: found)
    result = compare_gguf(trained.base, "q4_k_m", trained.answers, silent)
    assert result.cause == "quantization"
    assert f"0.5 nats; {KL_BOUNDS['q4_k_m']:g} is allowed" in result.details[0]
    assert "q8_0" in result.remedy
    assert not [name for name, remedy in self_test._MORE_BITS.items() if name in remedy]


def test_texts_of_a_bf16_file_are_those_of_the_trained_model_without_rounding(trained, tmp_path):
    """Its logits are compared with the rounded model, whose own choices would hide a change."""
    folder = Path(shutil.copytree(trained.answers.folder, tmp_path / "answers"))
    answers = replace(trained.answers, folder=folder, rounding=3.75)
    for place, known in enumerate(answers.prompts):
        choices = answers.logits(place).argmax(axis=1)
        changed = int(place < 5)
        np.save(choices_file(folder, place), (choices + changed) % len(trained.tokenizer))
        assert known.answer
    answers.save()
    merged = trained.export(tmp_path / "merged")
    write_gguf(merged, tmp_path / "a.gguf", "f16", "a model")
    result = compare_gguf(tmp_path / "a.gguf", "bf16", answers, silent)
    assert result.passed, result.details
    assert (result.same_text, result.rounding) == (15, 3.75)
    assert "changes 5 of 20 texts" in result.caution
    assert "F16 has three more bits" in result.caution


def test_a_file_that_is_missing_is_reported(trained, tmp_path):
    result = compare_gguf(tmp_path / "missing.gguf", "f16", trained.answers, silent)
    assert result.cause == "truncated file"
