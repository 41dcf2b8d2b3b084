"""Chat with encoder-decoders and extractive QA models through the chat process."""

from __future__ import annotations

import string

import pytest

pytestmark = pytest.mark.torch

TEXT = "the ship ada is red today. it sails west in the evening with a crew of nine."


@pytest.fixture(scope="module")
def seq2seq_model(tiny_model, tmp_path_factory):
    """A T5 of two layers and random weights, whose config names a prefix."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("seq2seq_model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
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
def qa_model(tmp_path_factory):
    """A BERT with a QA head and random weights; its tokenizer has single letters."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("qa_model")
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


def load(chat, folder, head, **more):
    chat.send({"load": {"model_path": str(folder), "device": "cpu", "head": head, **more}})
    return chat.until("loaded", "error")[-1]


def ask(chat, messages, **options):
    chat.send({"ask": {"messages": messages, **options}})
    messages = chat.until("done", "error")
    return "".join(each.get("text", "") for each in messages), messages[-1]


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def test_a_seq2seq_model_streams_what_transformers_generates(chat, seq2seq_model):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    assert load(chat, seq2seq_model, "seq2seq")["loaded"]["head"] == "seq2seq"
    reply, last = ask(chat, [user(TEXT)], max_new_tokens=12)
    tokenizer = AutoTokenizer.from_pretrained(seq2seq_model)
    model = AutoModelForSeq2SeqLM.from_pretrained(seq2seq_model)
    batch = tokenizer(f"summarize: {TEXT}", return_tensors="pt", return_token_type_ids=False)
    ids = model.generate(**batch, max_new_tokens=12, do_sample=False)[0, 1:]
    assert reply.strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert last["done"]["tokens"] == len(ids)


def test_a_seq2seq_model_reads_only_the_last_message(chat, seq2seq_model):
    load(chat, seq2seq_model, "seq2seq")
    alone, _ = ask(chat, [user(TEXT)], max_new_tokens=8)
    history = [user("another"), {"role": "assistant", "content": "text"}, user(TEXT)]
    assert ask(chat, history, max_new_tokens=8)[0] == alone
    assert ask(chat, [user(" ")])[1]["error"]["where"] == "messages"


def test_a_qa_model_answers_with_a_span_of_the_text_and_a_score(chat, qa_model):
    assert load(chat, qa_model, "span")["loaded"]["head"] == "span"
    reply, last = ask(chat, [system(TEXT * 3), user("which colour?")])
    answer = last["done"]["answer"]
    assert 0 < answer["score"] <= 1
    if answer["start"] is None:
        assert (reply, answer["text"]) == ("No answer in the text.", "")
    else:
        begin = answer["start"]
        assert reply == answer["text"] == (TEXT * 3)[begin : begin + len(reply)]


def test_the_text_may_also_come_as_the_first_message(chat, qa_model):
    load(chat, qa_model, "span")
    by_system = ask(chat, [system(TEXT), user("which colour?")])
    first = ask(chat, [user(TEXT), user("which colour?")])
    assert first[1]["done"]["answer"] == by_system[1]["done"]["answer"]


def test_a_question_without_a_text_is_refused(chat, qa_model):
    load(chat, qa_model, "span")
    error = ask(chat, [user("which colour?")])[1]["error"]
    assert "system message" in error["remedy"]
    long = ask(chat, [system(TEXT), user("a" * 80)])[1]["error"]
    assert "64 tokens" in long["what"]


def test_a_qa_adapter_has_its_head_and_the_base_model_has_none(chat, qa_model, tmp_path_factory):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForQuestionAnswering

    folder = tmp_path_factory.mktemp("qa_model-adapter")
    lora = LoraConfig(
        r=4, target_modules=["query", "value"], task_type="QUESTION_ANS", init_lora_weights=False
    )
    model = get_peft_model(AutoModelForQuestionAnswering.from_pretrained(qa_model), lora)
    model.save_pretrained(folder)
    assert "loaded" in load(chat, qa_model, "span", adapter=str(folder))
    assert ask(chat, [system(TEXT), user("which colour?")])[1]["done"]["answer"]["score"] > 0
    base = ask(chat, [system(TEXT), user("which colour?")], adapter=False)[1]["error"]
    assert "its adapter" in base["what"]


def test_an_unknown_head_is_refused(chat, qa_model):
    assert load(chat, qa_model, "two")["error"]["where"] == "head"
