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


def config_of(**settings):
    from modelforge.config.schema.config import TrainingConfig

    required = {"task": "text-generation", "model_name": "tiny", "dataset": "rows.jsonl"}
    return TrainingConfig(**required, compute_specs="low_end", **settings)


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": "No."},
]


def trained_text(template, row):
    from modelforge.modeling.tokenize.encode import encode

    (example,) = encode([row], template)
    kept = [
        token for token, label in zip(example.input_ids, example.labels, strict=True) if label >= 0
    ]
    return template.tokenizer.decode(kept), example


def test_without_a_chat_template_the_texts_stand_alone(tokenizer):
    from modelforge.modeling.tokenize.template import template_of_run

    template = template_of_run(tokenizer, [2], config_of(data={"use_chat_template": False}))
    end = tokenizer.eos_token
    assert template.render(TALK) == f"Be brief.\nHi\nYes.{end}\nMore?\nNo.{end}"
    assert template.render(TALK[:2], prompt=True) == "Be brief.\nHi\n"
    kept, example = trained_text(template, {"messages": TALK})
    assert kept == f"Yes.{end}No.{end}"
    prompt = tokenizer.apply_chat_template(TALK[:2], add_generation_prompt=True)["input_ids"]
    assert example.input_ids[: len(prompt)] == prompt


def test_the_texts_begin_as_every_text_of_the_tokenizer(tokenizer):
    from tokenizers.processors import TemplateProcessing

    from modelforge.modeling.tokenize.template import template_of_run

    first = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)]
    )
    template = template_of_run(tokenizer, [2], config_of(data={"use_chat_template": False}))
    assert template.render(TALK[1:2], prompt=True) == f"{first}Hi\n"


PREFIX = '<think>\n\n</think>\n"{{ü}}" \\n'


def test_every_answer_begins_with_the_prefix_which_is_not_trained(tokenizer):
    from modelforge.modeling.tokenize.template import template_of_run

    plain = template_of_run(tokenizer, [2], config_of())
    before = plain.render(TALK)
    template = template_of_run(tokenizer, [2], config_of(model={"response_prefix": PREFIX}))
    assert template.render(TALK) == before.replace("Yes.", f"{PREFIX}Yes.").replace(
        "No.", f"{PREFIX}No."
    )
    assert template.render(TALK[:2], prompt=True).endswith(f"assistant\n{PREFIX}")
    end = template.end_text
    kept, example = trained_text(template, {"messages": TALK})
    assert kept == f"Yes.{end}No.{end}"
    prompt = tokenizer.apply_chat_template(TALK[:2], add_generation_prompt=True)["input_ids"]
    assert example.input_ids[: len(prompt)] == prompt


def test_the_prefix_is_added_once(tokenizer):
    from modelforge.modeling.tokenize.template import template_of_run

    config = config_of(model={"response_prefix": "So: "})
    once = template_of_run(tokenizer, [2], config).tokenizer.chat_template
    assert template_of_run(tokenizer, [2], config).tokenizer.chat_template == once
    has_it = [TALK[1], {"role": "assistant", "content": "So: yes."}]
    assert template_of_run(tokenizer, [2], config).render(has_it).count("So: ") == 1


def test_ollama_opens_answers_with_the_prefix(tokenizer):
    from modelforge.export.ollama_template import derive
    from modelforge.modeling.tokenize.template import template_of_run

    template = template_of_run(tokenizer, [2], config_of(model={"response_prefix": "So: "}))
    found = derive(lambda messages: template.render(list(messages), prompt=True))
    assert found.end.endswith("assistant\nSo: ")
    assert found.before_answer.endswith("assistant\nSo: ")
