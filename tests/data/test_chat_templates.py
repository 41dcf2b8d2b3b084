"""Chat templates shared by training and chat: shipped ones, defaults and system folding."""

from __future__ import annotations

import jinja2
import pytest

from modelforge.data.chat_templates import PLAIN, default_template, fold_system, names
from modelforge.data.chat_templates import template_text as text_of

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Me."},
]


def render(source: str, **values: object) -> str:
    return jinja2.Environment(autoescape=False).from_string(source).render(messages=CHAT, **values)


def test_chatml_is_the_default_where_its_tokens_exist() -> None:
    name, source = default_template({"<|im_start|>": 1, "<|im_end|>": 2})
    assert name == "chatml"
    assert source == text_of("chatml")
    assert render(source, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
        "<|im_start|>assistant\nMe.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_other_tokenizers_get_the_plain_template_which_ends_answers_with_eos() -> None:
    assert default_template({"<|im_start|>": 1}) == ("plain", PLAIN)
    assert render(PLAIN, eos_token="</s>") == (
        "### System:\nBe brief.\n\n### User:\nWho?\n\n### Assistant:\nMe.</s>\n\n"
    )


def test_folding_moves_the_system_text_into_the_first_user_message() -> None:
    folded = fold_system(CHAT)
    assert folded == [{"role": "user", "content": "Be brief.\n\nWho?"}, CHAT[2]]
    assert fold_system(folded) == folded


@pytest.mark.parametrize("name", ["chatml", "gemma", "llama3", "qwen"])
def test_shipped_templates_have_names_and_text(name: str) -> None:
    assert name in names()
    assert "message" in (text_of(name) or "")


def test_without_a_setting_the_model_keeps_its_own_template() -> None:
    assert text_of(None) is None
    assert text_of("") is None
