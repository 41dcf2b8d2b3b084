"""Encoding and truncation of rows: token ids, labels and end tokens."""

from __future__ import annotations

from typing import Any

import pytest

# torch and its libraries emit deprecation warnings of their own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def encoded(
    tokenizer: Any, *rows: dict[str, Any], stops: tuple[int, ...] = (2,), longest: int = 512
):
    from modelforge.modeling.tokenize.encode import encode, truncate
    from modelforge.modeling.tokenize.template import load_chat_template

    whole = encode(rows, load_chat_template(tokenizer, stops))
    return [piece for row in whole for piece in truncate(row, longest, "right")]


def trained_text(tokenizer: Any, row: Any) -> str:
    return tokenizer.decode([label for label in row.labels if label != -100])


def chat(*turns: str) -> dict[str, Any]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]}


def test_only_the_answer_and_its_end_token_are_trained(tokenizer):
    (row,) = encoded(tokenizer, chat("u:Who are you?", "a:A captain, aye."))
    assert trained_text(tokenizer, row) == "A captain, aye.<|im_end|>"


def test_the_ids_are_what_the_chat_template_gives(tokenizer):
    messages = chat("s:Be brief.", "u:Who are you?", "a:A captain, aye.")
    (row,) = encoded(tokenizer, messages)
    assert row.input_ids == tokenizer.apply_chat_template(messages["messages"])["input_ids"]


def test_the_prompt_in_training_is_the_prompt_in_chat(tokenizer):
    messages = chat("u:Who are you?", "a:A captain, aye.")
    (row,) = encoded(tokenizer, messages)
    prompt = tokenizer.apply_chat_template(messages["messages"][:1], add_generation_prompt=True)
    length = len(prompt["input_ids"])
    assert row.input_ids[:length] == prompt["input_ids"]
    assert row.labels[length - 1] == -100
    assert row.labels[length] != -100


def test_every_answer_of_a_conversation_is_trained(tokenizer):
    (row,) = encoded(tokenizer, chat("s:S", "u:One?", "a:First.", "u:Two?", "a:Second."))
    assert trained_text(tokenizer, row) == "First.<|im_end|>Second.<|im_end|>"


def test_an_answer_that_repeats_the_question_is_found(tokenizer):
    (row,) = encoded(tokenizer, chat("u:Yes", "a:Yes", "u:Yes", "a:Yes"))
    assert trained_text(tokenizer, row) == "Yes<|im_end|>Yes<|im_end|>"


def test_a_template_that_rewrites_history_still_trains_every_answer(tokenizer):
    tokenizer.chat_template = THINKING
    (row,) = encoded(tokenizer, chat("u:One?", "a:First.", "u:Two?", "a:Second."))
    expected = "First.<|im_end|><think>\n\n</think>\n\nSecond.<|im_end|>"
    assert trained_text(tokenizer, row) == expected


def test_a_template_without_a_system_role_gets_it_in_the_first_user_message(tokenizer):
    tokenizer.chat_template = NO_SYSTEM
    (row,) = encoded(tokenizer, chat("s:Be brief.", "u:Who?", "a:Me."))
    assert "Be brief.\n\nWho?" in tokenizer.decode(row.input_ids)
    assert trained_text(tokenizer, row) == "Me.<|im_end|>"


def test_a_conversation_that_the_template_refuses_has_no_trained_token(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('never') }}{{ messages }}"
    from modelforge.modeling.tokenize.encode import encode
    from modelforge.modeling.tokenize.template import ChatTemplate

    template = ChatTemplate(tokenizer, "<|im_end|>", 2, frozenset({2}))
    (row,) = encode([chat("u:Who?", "a:Me.")], template)
    assert row.trained_tokens == 0


def test_plain_text_is_trained_whole_and_ends_in_the_end_token(tokenizer):
    (row,) = encoded(tokenizer, {"text": "Once upon a time."})
    assert row.labels == row.input_ids
    assert tokenizer.decode(row.input_ids) == "Once upon a time.<|im_end|>"


def test_rows_of_both_kinds_may_be_mixed(tokenizer):
    rows = encoded(tokenizer, {"text": "Once."}, chat("u:Who?", "a:Me."), {"text": "Twice."})
    texts = [trained_text(tokenizer, row) for row in rows]
    assert texts == ["Once.<|im_end|>", "Me.<|im_end|>", "Twice.<|im_end|>"]


def test_a_long_row_is_truncated(tokenizer):
    (row,) = encoded(tokenizer, chat("u:Who?", "a:" + "word " * 200), longest=40)
    assert row.is_truncated
    assert len(row.input_ids) == len(row.labels) == 40


def test_a_prompt_beyond_the_max_length_has_no_trained_token(tokenizer):
    (row,) = encoded(tokenizer, chat("u:" + "word " * 200, "a:Me."), longest=40)
    assert row.trained_tokens == 0


def test_emoji_and_umlauts_in_an_answer_are_trained_whole(tokenizer):
    (row,) = encoded(tokenizer, chat("u:Grüße?", "a:Schöne Grüße 👋🏽 aus Köln"))
    assert trained_text(tokenizer, row) == "Schöne Grüße 👋🏽 aus Köln<|im_end|>"


def test_without_a_template_chatml_is_used_where_its_tokens_exist(tokenizer):
    from modelforge.modeling.tokenize.template import load_chat_template

    tokenizer.chat_template = None
    size = len(tokenizer)
    template = load_chat_template(tokenizer, (0,))
    assert [code for code, _ in template.notes] == ["chat-template-chatml", "end-token-added"]
    assert template.stop_ids == {0, 2}
    assert len(tokenizer) == size
    assert "<|im_start|>" in tokenizer.chat_template


def test_without_chatml_tokens_the_plain_template_still_ends_answers(tokenizer):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: at for at, word in enumerate(["<unk>", "</s>", "Who", "Me", "#", "User"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>")
    (row,) = encoded(plain, chat("u:Who", "a:Me"), stops=(1,))
    assert [label for label in row.labels if label != -100] == [3, 1]


def test_a_template_without_an_end_token_gets_one_after_every_answer(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (row,) = encoded(tokenizer, chat("u:One?", "a:First.", "u:Two?", "a:Second."))
    assert trained_text(tokenizer, row) == "First.<|im_end|>Second.<|im_end|>"


def test_the_end_token_of_the_template_becomes_a_stop_token(tokenizer):
    from modelforge.modeling.tokenize.template import load_chat_template

    template = load_chat_template(tokenizer, (0,))
    assert template.stop_ids == {0, 2}
    assert [code for code, _ in template.notes] == ["end-token-added"]


SHOUTING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | upper }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
UNMARKED = (
    "{% for m in messages %}{{ m['role'] | length }}{{ m['content'] | length }}{% endfor %}"
    "{% if add_generation_prompt %}?{% endif %}"
)
CALLING = [
    {"role": "user", "content": "How warm is it?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}
        ],
    },
    {"role": "tool", "content": "21"},
    {"role": "assistant", "content": "It is 21 degrees."},
]
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks."}}]
CHAT = ("s:S", "u:One?", "a:First.", "u:Two?", "a:Second.")


def learn(tokenizer: Any, name: str | None = None, **more: Any) -> Any:
    from modelforge.data.chat_templates import template_text
    from modelforge.modeling.tokenize.template import load_chat_template

    return load_chat_template(tokenizer, (2,), template=template_text(name), **more)


def read(row: dict[str, Any], template: Any, loss_on: Any = "completion") -> Any:
    from modelforge.modeling.tokenize.encode import encode

    return encode([row], template, loss_on)[0]


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("completion", "First.<|im_end|>Second.<|im_end|>"),
        ("assistant", "First.<|im_end|>Second.<|im_end|>"),
        ("last_round", "Second.<|im_end|>"),
    ],
)
def test_the_loss_of_a_chat_is_on_the_configured_messages(tokenizer, loss_on, expected):
    assert trained_text(tokenizer, read(chat(*CHAT), learn(tokenizer), loss_on)) == expected


def test_with_a_loss_on_all_every_token_is_trained(tokenizer):
    row = read(chat(*CHAT), learn(tokenizer), "all")
    assert row.labels == row.input_ids


@pytest.mark.parametrize("loss_on", ["assistant", "last_round"])
def test_plain_text_has_no_message_to_train_on(tokenizer, loss_on):
    row = read({"text": "Once."}, learn(tokenizer), loss_on)
    assert (row.trained_tokens, len(row.input_ids) > 0) == (0, True)


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen", "gemma"])
def test_named_templates_mark_every_answer(tokenizer, name):
    template = learn(tokenizer, name)
    text = trained_text(tokenizer, read(chat(*CHAT), template))
    assert text == "First.<|im_end|>Second.<|im_end|>"
    codes = [code for code, _ in template.notes]
    assert codes == (["end-token-put"] if name in ("llama3", "gemma") else [])


def test_gemma_renders_the_system_text_in_the_first_turn(tokenizer):
    text = tokenizer.decode(read(chat(*CHAT), learn(tokenizer, "gemma")).input_ids)
    assert text.startswith("<|im_start|><start_of_turn>user\nS\n\nOne?<end_of_turn>")


def test_a_tool_call_is_trained_and_its_result_is_not(tokenizer):
    row = read({"messages": CALLING, "tools": TOOLS}, learn(tokenizer, "qwen"))
    text = trained_text(tokenizer, row)
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "sea"}}\n</tool_call>'
    assert text == f"{call}<|im_end|>It is 21 degrees.<|im_end|>"
    assert '"description": "Looks."' in tokenizer.decode(row.input_ids)


def test_a_tool_call_that_the_template_does_not_render_is_counted_and_not_trained(tokenizer):
    template = learn(tokenizer)
    row = read({"messages": CALLING, "tools": TOOLS}, template)
    assert trained_text(tokenizer, row) == "It is 21 degrees.<|im_end|>"
    assert (row.unmatched, row.rewritten) == (1, 0)
    assert not template.supports_tools


def test_an_answer_that_the_template_rewrites_is_trained_as_rendered(tokenizer):
    tokenizer.chat_template = SHOUTING
    row = read(chat(*CHAT), learn(tokenizer))
    assert trained_text(tokenizer, row) == "FIRST.<|im_end|>SECOND.<|im_end|>"
    assert (row.unmatched, row.rewritten) == (0, 2)


def test_an_answer_that_is_not_found_is_counted(tokenizer):
    tokenizer.chat_template = UNMARKED
    row = read(chat(*CHAT), learn(tokenizer))
    assert (row.trained_tokens, row.unmatched) == (0, 2)
    assert read(chat(*CHAT), learn(tokenizer), "all").trained_tokens > 0


def test_the_last_round_is_never_an_earlier_answer(tokenizer):
    turns = [*CALLING[:3], {**CALLING[1]}]
    assert read({"messages": turns}, learn(tokenizer), "last_round").trained_tokens == 0


def test_the_configured_system_prompt_replaces_that_of_the_rows(tokenizer):
    template = learn(tokenizer, system_prompt="Speak like a captain.")
    for row in (chat(*CHAT), chat("u:One?", "a:First.")):
        text = tokenizer.decode(read(row, template).input_ids)
        assert text.startswith("<|im_start|>system\nSpeak like a captain.<|im_end|>")
        assert text.count("<|im_start|>system") == 1


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("right", [[1, 2, 3, 4]]),
        ("left", [[7, 8, 9, 10]]),
        ("delete", []),
        ("split", [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]),
    ],
)
def test_long_rows_are_truncated_by_the_strategy(strategy, expected):
    from modelforge.modeling.tokenize.encode import TokenizedExample, truncate

    row = TokenizedExample(list(range(1, 11)), [-100, *range(2, 11)])
    pieces = truncate(row, 4, strategy)
    assert [piece.input_ids for piece in pieces] == expected
    if strategy in ("left", "right"):
        assert pieces[0].cut_before + pieces[0].input_ids + pieces[0].cut_after == row.input_ids
    assert truncate(row, 10, strategy) == [row]


def test_rows_of_another_kind_are_refused(tokenizer):
    from modelforge.errors import DataError

    with pytest.raises(DataError, match="neither conversations nor plain text"):
        read({"prompt": [], "chosen": [], "rejected": []}, learn(tokenizer))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("gone.jinja", None, "does not exist"),
        ("empty.jinja", " \n", "is empty"),
        ("latin.jinja", b"\xe4", "is not UTF-8"),
        ("big.jinja", "x" * (2**20 + 1), "larger than 1 MiB"),
        ("other.txt", "x", "is not a chat template"),
        ("wrong.jinja", "{% for m in messages %}", "cannot render a question and its answer at"),
        ("spy.jinja", "{{ ().__class__.__bases__[0].__subclasses__() }}", "unsafe"),
    ],
)
def test_an_unusable_template_file_is_refused_with_a_reason(
    tokenizer, tmp_path, name, text, reason
):
    from modelforge.errors import DataError

    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=reason) as refused:
        learn(tokenizer, str(path))
    assert refused.value.problems[0].where == "model.chat_template"


@pytest.mark.parametrize("loss_on", ["completion", "assistant", "all"])
def test_an_answer_with_the_weight_0_is_read_and_not_trained(tokenizer, loss_on):
    from modelforge.modeling.tokenize.encode import encode
    from modelforge.modeling.tokenize.template import load_chat_template

    row = chat("u:q", "a:first try", "u:r", "a:good one")
    row["messages"][1]["weight"] = 0.0
    (example,) = encode([row], load_chat_template(tokenizer, (2,)), loss_on)
    assert "first try" in tokenizer.decode(example.input_ids)
    assert "first try" not in trained_text(tokenizer, example)
    assert "good one<|im_end|>" in trained_text(tokenizer, example)


@pytest.mark.parametrize("key", ["reasoning_content", "thinking"])
def test_reasoning_is_trained_where_the_template_writes_it_and_noted_elsewhere(tokenizer, key):
    from modelforge.modeling.tokenize.counters import TokenizeCounts
    from modelforge.modeling.tokenize.encode import encode
    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.modeling.tokenize.template import load_chat_template

    row = chat("u:q", "a:yes")
    row["messages"][1]["reasoning_content"] = "I think so."
    writes = f"{{% if m.{key} %}}<think>{{{{ m.{key} }}}}</think>{{% endif %}}"
    template = THINKING.replace("{{ m['content'] }}", writes + "{{ m['content'] }}")
    for text, wanted in ((template, True), (THINKING, False)):
        loaded = load_chat_template(tokenizer, (2,), template=text)
        (example,) = encode([row], loaded)
        assert ("I think so." in trained_text(tokenizer, example)) is wanted
        counts, options = TokenizeCounts(), TokenizeOptions(max_length=64)
        counts.add(row, example, options)
        codes = [code for code, _ in counts.notes(options, loaded)]
        assert ("reasoning-unwritten" in codes) is not wanted


def test_an_answer_of_which_the_template_writes_nothing_trains_nothing(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (row,) = encoded(tokenizer, chat("u:Who are you?", "a:A captain, aye."))
    assert (row.unmatched, row.rewritten, row.trained_tokens) == (1, 0, 0)


SEGMENTS = {
    "text": "<s>One tree, two trees",
    "segments": [[0, 13, False], [13, 17, True], [17, 22, True]],
}


def test_segments_are_tokenized_alone_and_trained_where_labelled(tokenizer):
    from modelforge.modeling.tokenize.encode import encode
    from modelforge.modeling.tokenize.template import load_chat_template

    pieces = ["<s>One tree, ", "two ", "trees"]
    ids = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    plain = {"text": "A text."}
    template = load_chat_template(tokenizer, (2,))
    untrained = [[-100] * len(each) for each in ids]
    labels = {
        "completion": [untrained[0], ids[1], ids[2]],
        "assistant": [untrained[0], ids[1], ids[2]],
        "last_round": [untrained[0], untrained[1], ids[2]],
        "all": ids,
    }
    for loss_on, wanted in labels.items():
        row, other = encode([SEGMENTS, plain], template, loss_on)
        assert row.input_ids == [token for each in ids for token in each]
        assert row.labels == [token for each in wanted for token in each]
        (alone,) = encode([plain], template, loss_on)
        assert other == alone


def weighted(tokenizer: Any, row: dict[str, Any], roles: dict[str, float], **options: Any) -> Any:
    """Return the text of each weight of a row, in the order of the weights."""
    from modelforge.modeling.tokenize.encode import encode
    from modelforge.modeling.tokenize.loss_weights import LossWeights
    from modelforge.modeling.tokenize.template import load_chat_template

    of_messages = options.pop("of_messages", False)
    template, weights = load_chat_template(tokenizer, (2,)), LossWeights(roles, of_messages)
    (example,) = encode([row], template, **options, weights=weights)
    pairs = list(zip(example.input_ids, example.weights, strict=True))
    trained = [label != -100 for label in example.labels]
    assert trained == [weight > 0 for weight in example.weights]
    return {
        weight: tokenizer.decode([token for token, each in pairs if each == weight])
        for weight in sorted(set(example.weights))
    }


TALK = ("s:Be brief.", "u:Who are you?", "a:A captain.", "u:Of what?", "a:Of a ship.")


def test_tokens_have_the_weight_of_their_role(tokenizer):
    found = weighted(tokenizer, chat(*TALK), {"user": 0.25, "system": 0.5, "assistant": 2.0})
    assert found[0.25] == "Who are you?Of what?"
    assert found[0.5] == "Be brief."
    assert found[2.0] == "A captain.<|im_end|>Of a ship.<|im_end|>"
    assert "<|im_start|>" in found[0.0]
    assert "captain" not in found[0.0]


def test_roles_without_a_weight_are_as_the_loss_says(tokenizer):
    found = weighted(tokenizer, chat(*TALK), {"user": 0.25}, loss_on="all")
    assert "<|im_start|>" in found[1.0]
    assert "Be brief." in found[1.0]
    assert set(found) == {0.25, 1.0}
    last = weighted(tokenizer, chat(*TALK), {"template": 0.5}, loss_on="last_round")
    assert last[1.0] == "Of a ship.<|im_end|>"
    assert "captain" in last[0.0]
    assert last[0.5].count("<|im_start|>") == 5


def test_answers_have_the_weight_of_their_message(tokenizer):
    row = chat(*TALK)
    row["messages"][2]["weight"] = 0.5
    found = weighted(tokenizer, row, {}, of_messages=True)
    assert found[0.5] == "A captain.<|im_end|>"
    assert found[1.0] == "Of a ship.<|im_end|>"
    both = weighted(tokenizer, row, {"assistant": 3.0}, of_messages=True)
    assert both[1.5] == "A captain.<|im_end|>"
    assert set(weighted(tokenizer, row, {"user": 0.2})) == {0.0, 0.2, 1.0}


def test_weights_are_cut_with_their_tokens(tokenizer):
    from modelforge.modeling.tokenize.encode import encode, truncate
    from modelforge.modeling.tokenize.loss_weights import LossWeights
    from modelforge.modeling.tokenize.template import load_chat_template

    weights = LossWeights({"user": 0.25})
    (whole,) = encode([chat(*TALK)], load_chat_template(tokenizer, (2,)), weights=weights)
    length = len(whole.input_ids)
    for strategy, parts in (
        ("left", [whole.weights[length - 20 :]]),
        ("right", [whole.weights[:20]]),
        ("split", [whole.weights[at : at + 20] for at in range(0, length, 20)]),
    ):
        assert [part.weights for part in truncate(whole, 20, strategy)] == parts
