"""A talker that rewrites, one that points, and one trained whole, as the server speaks to them."""

from __future__ import annotations

import string

import pytest

pytestmark = pytest.mark.torch

TEXT = "the ship ada is red today. it sails west in the evening with a crew of nine."


@pytest.fixture(scope="module")
def rewriter(tiny, tmp_path_factory):
    """A T5 of two layers and random weights, whose config asks for a lead."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("rewriter")
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=0,
        task_specific_params={"summarization": {"prefix": "summarize: "}},
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A BERT with a head for answers and random weights; its tokenizer knows single letters."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("reader")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits
    words = [*special, *letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    pieces = BertWordPieceTokenizer({word: number for number, word in enumerate(words)})
    names = ("pad", "unk", "cls", "sep", "mask")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in zip(names, special, strict=True)},
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    BertForQuestionAnswering(config).save_pretrained(folder)
    return folder


def opened(talker, folder, head, **more):
    talker.say({"load": {"model_path": str(folder), "device": "cpu", "head": head, **more}})
    return talker.until("loaded", "error")[-1]


def asked(talker, messages, **how):
    talker.say({"ask": {"messages": messages, **how}})
    heard = talker.until("done", "error")
    return "".join(each.get("text", "") for each in heard), heard[-1]


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def test_a_rewriter_streams_what_the_library_generates_of_the_document(talker, rewriter):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    assert opened(talker, rewriter, "seq2seq")["loaded"]["head"] == "seq2seq"
    said, last = asked(talker, [user(TEXT)], max_new_tokens=12)
    tokenizer = AutoTokenizer.from_pretrained(rewriter)
    model = AutoModelForSeq2SeqLM.from_pretrained(rewriter)
    batch = tokenizer(f"summarize: {TEXT}", return_tensors="pt", return_token_type_ids=False)
    ids = model.generate(**batch, max_new_tokens=12, do_sample=False)[0, 1:]
    assert said.strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert last["done"]["tokens"] == len(ids)


def test_only_the_last_message_is_rewritten(talker, rewriter):
    opened(talker, rewriter, "seq2seq")
    alone, _ = asked(talker, [user(TEXT)], max_new_tokens=8)
    history = [user("another"), {"role": "assistant", "content": "text"}, user(TEXT)]
    assert asked(talker, history, max_new_tokens=8)[0] == alone
    assert "needs the text" in asked(talker, [user(" ")])[1]["error"]["what"]


def test_a_reader_answers_with_a_part_of_the_text_and_says_how_sure_it_is(talker, reader):
    assert opened(talker, reader, "span")["loaded"]["head"] == "span"
    said, last = asked(talker, [system(TEXT * 3), user("which colour?")])
    answer = last["done"]["answer"]
    assert 0 < answer["score"] <= 1
    if answer["start"] is None:
        assert (said, answer["text"]) == ("No answer in the text.", "")
    else:
        begin = answer["start"]
        assert said == answer["text"] == (TEXT * 3)[begin : begin + len(said)]


def test_the_text_may_also_come_as_the_first_message(talker, reader):
    opened(talker, reader, "span")
    told = asked(talker, [system(TEXT), user("which colour?")])
    first = asked(talker, [user(TEXT), user("which colour?")])
    assert first[1]["done"]["answer"] == told[1]["done"]["answer"]


def test_a_question_without_a_text_is_refused_in_words(talker, reader):
    opened(talker, reader, "span")
    error = asked(talker, [user("which colour?")])[1]["error"]
    assert "system message" in error["remedy"]
    long = asked(talker, [system(TEXT), user("a" * 80)])[1]["error"]
    assert "64 tokens" in long["what"]


def test_an_adapter_for_answers_brings_its_head_and_the_base_has_none(
    talker, reader, tmp_path_factory
):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForQuestionAnswering

    folder = tmp_path_factory.mktemp("reader-adapter")
    lora = LoraConfig(
        r=4, target_modules=["query", "value"], task_type="QUESTION_ANS", init_lora_weights=False
    )
    model = get_peft_model(AutoModelForQuestionAnswering.from_pretrained(reader), lora)
    model.save_pretrained(folder)
    assert "loaded" in opened(talker, reader, "span", adapter=str(folder))
    assert asked(talker, [system(TEXT), user("which colour?")])[1]["done"]["answer"]["score"] > 0
    base = asked(talker, [system(TEXT), user("which colour?")], adapter=False)[1]["error"]
    assert "without its adapter" in base["what"]


def test_an_unknown_head_is_refused(talker, reader):
    assert "no head" in opened(talker, reader, "two")["error"]["what"]
