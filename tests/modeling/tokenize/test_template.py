"""End tokens and default chat templates, as training and chat find them."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

HEAD = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
TAIL = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.fixture
def tokenizer(tiny_model) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("<|im_end|>\n", "<|im_end|>"),
        (" <|im_end|>", "<|im_end|>"),
        ("<|endoftext|><|im_end|>", "<|endoftext|>"),
        ("\n" * 20 + "<|im_end|>", None),
        ("\n", None),
    ],
)
def test_the_end_token_is_the_first_special_token_after_an_answer(tokenizer, end, expected):
    from modelforge.modeling.tokenize.template import end_of_turn

    tokenizer.chat_template = f"{HEAD}{end}{TAIL}"
    wanted = None if expected is None else tokenizer.convert_tokens_to_ids(expected)
    assert end_of_turn(tokenizer) == wanted


def test_chat_stops_where_training_ends_answers(tokenizer, tiny_model):
    from transformers import AutoModelForCausalLM

    from modelforge.chat.generate import stop_ids
    from modelforge.modeling.tokenize.template import load_chat_template, stop_ids_of

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    template = load_chat_template(tokenizer, stop_ids_of(model.generation_config))
    assert template.end_id in stop_ids(model, tokenizer)
    assert template.stop_ids <= set(stop_ids(model, tokenizer))


def test_a_hostile_template_ends_the_run_before_its_first_row(tokenizer):
    from modelforge.errors import DataError
    from modelforge.modeling.tokenize.template import load_chat_template

    tokenizer.chat_template = "{{ 'a' * 3000000000 }}"
    with pytest.raises(DataError, match="it needs more than 1 GiB of memory"):
        load_chat_template(tokenizer, [2])
