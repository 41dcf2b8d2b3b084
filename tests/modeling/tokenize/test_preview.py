"""The token preview equals the batches of the real trainer."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import to_canonical
from modelforge.data.columns.detect import detect_mapping

# torch and its libraries emit deprecation warnings of their own.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

Q, A, Q2, A2 = "Who sails the ship?", "The captain, aye.", "And at night? 🌙", "The mate — ja!"
FORMATS: dict[str, dict[str, Any]] = {
    "pair": {"input": Q, "output": A},
    "instruction": {"instruction": Q, "input": "A brig.", "output": A, "system": "Be brief."},
    "messages": {
        "messages": [
            {"role": "user", "content": Q},
            {"role": "assistant", "content": A},
            {"role": "user", "content": Q2},
            {"role": "assistant", "content": A2},
        ]
    },
    "conversations": {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": Q},
            {"from": "gpt", "value": A},
            {"from": "human", "value": Q2},
            {"from": "gpt", "value": A2},
        ]
    },
    "summary": {"document": "A ship set sail. " * 4, "summary": A},
    "text": {"text": "Once upon a time a ship set sail. " * 3},
}
LOSSES = ("completion", "assistant", "last_round", "all")
TEMPLATES = ("llama3", "qwen", "gemma")
SHORT = {"pair": {"input": "Why?", "output": "Why not."}, "text": {"text": "The end."}}


def canonicals(kind: str) -> list[dict[str, Any]]:
    """Three rows of a format, of two lengths, as training reads them."""
    raw = [FORMATS[kind], SHORT.get(kind, FORMATS[kind]), FORMATS[kind]]
    mapping = detect_mapping(raw)
    return [to_canonical(row, mapping) for row in raw]


@pytest.fixture(scope="module")
def network(tiny_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model)


def planned(**settings: Any) -> tuple[TrainingConfig, Any]:
    required = {"task": "text-generation", "model_name": "x", "dataset": "x"}
    values = {"per_device_train_batch_size": 8, "use_4bit": False, "eval_split": 0, **settings}
    config = TrainingConfig.from_record({**required, "compute_specs": "low_end", **values})
    kind = "decoder" if config.task == "text-generation" else "encoder"
    return config, make_plan(config, PlanContext("cpu", "x", context=512, kind=kind))


def template_of(tokenizer: Any, config: TrainingConfig) -> Any:
    from modelforge.data.chat_templates import template_text
    from modelforge.modeling.tokenize.template import load_chat_template

    template = template_text(config.model.chat_template)
    return load_chat_template(
        tokenizer, (2,), template=template, system_prompt=config.model.system_prompt
    )


def previewed(tokenizer: Any, rows: list[dict[str, Any]], **settings: Any) -> Any:
    from modelforge.modeling.tokenize.collate import sft_data_arguments
    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.modeling.tokenize.preview import preview_tokens

    config, plan = planned(**settings)
    template = template_of(tokenizer, config)
    return preview_tokens(
        rows, template, TokenizeOptions.from_plan(config, plan), sft_data_arguments(config, plan)
    )


def trained_tokens(
    network: Any, tokenizer: Any, rows: list[dict[str, Any]], folder: Any, **settings: Any
) -> list[tuple[int, int, bool]]:
    """Every token of the batches of a real trainer: its id, its label, and whether it is read."""
    from datasets import Dataset

    from modelforge.modeling.tokenize.options import TokenizeOptions
    from modelforge.runs.layout import RunFolder
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import SftTrainer, trained_rows, training_arguments

    config, plan = planned(**settings)
    options = TokenizeOptions.from_plan(config, plan)
    template = template_of(tokenizer, config)
    pieces = [piece for row in options.encode(rows, template) for piece in options.truncate(row)]
    if not pieces:
        return []
    columns = {"input_ids": [p.input_ids for p in pieces], "labels": [p.labels for p in pieces]}
    job = Job(RunFolder(folder), "a try", config, plan, {})
    trainer = SftTrainer(
        model=network,
        args=training_arguments(job, evaluates=False),
        train_dataset=trained_rows(Dataset.from_dict(columns), config, plan),
        processing_class=tokenizer,
    )
    each = [[row] for row in trainer.train_dataset] if config.packing else [trainer.train_dataset]
    found = []
    for rows_of_batch in each:
        batch = trainer.data_collator(list(rows_of_batch))
        mask = batch.get("attention_mask")
        for at, ids in enumerate(batch["input_ids"].tolist()):
            read = mask[at].tolist() if mask is not None else [1] * len(ids)
            found += zip(ids, batch["labels"][at].tolist(), map(bool, read), strict=True)
    return found


def shown_tokens(preview: Any) -> list[tuple[int, int, bool]]:
    return [
        (token, token if role in ("trained", "end") else -100, role != "pad")
        for row in preview.rows
        if not row.name.startswith("Left out")
        for token, role in row.tokens
        if role != "cut"
    ]


TRAINED = ("trained", "end")


def trained_text(tokenizer: Any, preview: Any) -> str:
    ids = [
        token for row in preview.rows for token, role in row.tokens if role in ("trained", "end")
    ]
    return tokenizer.decode(ids)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(("kind", "loss"), list(product(FORMATS, LOSSES)))
def test_the_preview_equals_the_collated_batch(network, tokenizer, tmp_path, kind, loss, packing):
    rows = canonicals(kind)
    settings = {"packing": packing, "data": {"loss_on": loss}}
    preview = previewed(tokenizer, rows, **settings)
    expected = trained_tokens(network, tokenizer, rows, tmp_path, **settings)
    assert shown_tokens(preview) == expected
    nothing = kind == "text" and loss in ("assistant", "last_round")
    assert bool(expected) is not nothing
    if not packing and kind in SHORT and not nothing:
        assert any(row.totals["pad"] for row in preview.rows)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(
    ("template", "loss", "kind"), list(product(TEMPLATES, LOSSES, ("conversations", "pair")))
)
def test_the_preview_equals_the_collated_batch_with_other_templates(
    network, tokenizer, tmp_path, template, loss, kind, packing
):
    rows = canonicals(kind)
    settings = {
        "packing": packing,
        "data": {"loss_on": loss},
        "model": {"chat_template": template},
    }
    preview = previewed(tokenizer, rows, **settings)
    assert shown_tokens(preview) == trained_tokens(network, tokenizer, rows, tmp_path, **settings)
    if kind == "conversations" and loss != "all":
        text = trained_text(tokenizer, preview)
        assert Q not in text
        assert (A in text) is (loss != "last_round")
        assert A2 in text


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_every_packing_strategy_is_shown_as_packed(network, tokenizer, tmp_path, strategy):
    rows = canonicals("conversations") * 3
    settings = {
        "packing": True,
        "max_seq_length": 50,
        "data": {"packing_strategy": strategy, "loss_on": "all"},
    }
    preview = previewed(tokenizer, rows, **settings)
    expected = trained_tokens(network, tokenizer, rows, tmp_path, **settings)
    assert shown_tokens(preview) == expected
    lost = sum(row.totals["cut"] for row in preview.rows)
    assert (lost > 0) is (strategy == "bfd")


def test_a_batch_without_padding_is_one_sequence(network, tokenizer, tmp_path):
    rows = canonicals("pair")
    settings = {"data": {"padding_free": True}}
    preview = previewed(tokenizer, rows, **settings)
    assert shown_tokens(preview) == trained_tokens(network, tokenizer, rows, tmp_path, **settings)
    assert len(preview.rows) == 1
    assert preview.rows[0].totals["pad"] == 0


@pytest.mark.parametrize("strategy", ["right", "left", "delete", "split"])
def test_long_rows_are_shown_with_their_cut_tokens(network, tokenizer, tmp_path, strategy):
    rows = canonicals("conversations")[:1]
    settings = {"max_seq_length": 30, "data": {"truncation_strategy": strategy, "loss_on": "all"}}
    preview = previewed(tokenizer, rows, **settings)
    assert shown_tokens(preview) == trained_tokens(network, tokenizer, rows, tmp_path, **settings)
    whole = previewed(tokenizer, rows, data={"loss_on": "all"}).rows[0]
    ids = [token for row in preview.rows for token, role in row.tokens if role != "pad"]
    assert ids == [token for token, _ in whole.tokens]
    roles = [role for role in preview.rows[0].totals if preview.rows[0].totals[role]]
    assert ("cut" in roles) is (strategy != "split")
    if strategy == "left":
        assert preview.rows[0].tokens[0][1] == "cut"
        assert preview.rows[0].tokens[-1][1] != "cut"


def test_a_pair_is_shown_as_dpo_sees_it(tokenizer):
    raw = [{"prompt": Q, "chosen": A, "rejected": "No idea at all, sorry."}]
    preview = previewed(tokenizer, [to_canonical(raw[0], detect_mapping(raw))])
    chosen, rejected = preview.rows
    assert (chosen.name, rejected.name) == ("Chosen", "Rejected")
    first = [token for token, role in chosen.tokens if role == "masked"]
    assert first == [token for token, role in rejected.tokens if role == "masked"]
    for row, answer in ((chosen, A), (rejected, "No idea at all, sorry.")):
        ids = [token for token, role in row.tokens if role in ("trained", "end")]
        assert tokenizer.decode(ids) == f"{answer}<|im_end|>"


def test_the_tokens_of_a_pair_are_those_of_trls_own_preparation(network, tokenizer, tmp_path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from modelforge.modeling.tokenize.preference import encode_pair

    raw = {"prompt": Q, "chosen": A, "rejected": "No idea at all, sorry."}
    row = to_canonical(raw, detect_mapping([raw]))
    config, _ = planned()
    ours = encode_pair(row, template_of(tokenizer, config))
    settings = DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    data = Dataset.from_list([row])
    trainer = DPOTrainer(network, args=settings, train_dataset=data, processing_class=tokenizer)
    (theirs,) = trainer.train_dataset
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert theirs["prompt_ids"] == ours.prompt
    assert theirs["chosen_ids"] == ours.chosen + newline
    assert theirs["rejected_ids"] == ours.rejected + newline


@pytest.mark.parametrize(("strategy", "rows"), [("right", 2), ("left", 2), ("delete", 2)])
def test_a_long_pair_is_truncated_as_by_its_collator(tokenizer, strategy, rows):
    raw = {"prompt": Q, "chosen": A * 5, "rejected": "No."}
    row = to_canonical(raw, detect_mapping([raw]))
    preview = previewed(tokenizer, [row], max_seq_length=50, data={"truncation_strategy": strategy})
    assert len(preview.rows) == rows
    totals = preview.rows[0].totals
    kept = totals["masked"] + totals["trained"] + totals["end"]
    assert kept == (0 if strategy == "delete" else 50)
    assert totals["cut"] > 0


def test_a_labelled_completion_is_shown_with_its_label(tokenizer):
    raw = {"prompt": Q, "completion": A, "label": False}
    preview = previewed(tokenizer, [to_canonical(raw, detect_mapping([raw]))])
    assert [row.name for row in preview.rows] == ["Bad completion"]
    assert trained_text(tokenizer, preview) == f"{A}<|im_end|>"


def test_an_answer_in_a_context_is_marked_in_its_window(tokenizer):
    context = "Long ago a ship set sail. The captain was called Ada. They went west. " * 30
    start = context.index("Ada", 800)
    raw = {
        "context": context,
        "question": "Who was captain?",
        "answers": {"text": ["Ada"], "answer_start": [start]},
    }
    row = to_canonical(raw, detect_mapping([raw]))
    task = "extractive-question-answering"
    whole = previewed(tokenizer, [row], max_seq_length=512, task=task)
    windows = previewed(tokenizer, [row], max_seq_length=128, task=task)
    read = previewed(tokenizer, [row | {"context": context[:80]}], max_seq_length=512)
    assert trained_text(tokenizer, read) == "Ada<|im_end|>", "a decoder answers in words"
    assert trained_text(tokenizer, whole).strip() == "Ada"
    assert len(windows.rows) > 2
    assert windows.rows[0].totals["trained"] == 0
    assert "Ada" in trained_text(tokenizer, windows)


def test_the_texts_of_the_tokens_add_up_to_the_row(tokenizer):
    (row,) = previewed(tokenizer, canonicals("messages")[:1]).as_dict(
        template_of(tokenizer, planned()[0])
    )["rows"]
    assert "".join(piece["text"] for piece in row["pieces"]) == tokenizer.decode(
        [piece["id"] for piece in row["pieces"]]
    )
    assert sum(row["totals"].values()) == len(row["pieces"])
    assert {piece["role"] for piece in row["pieces"]} == {"masked", "trained", "end"}


def test_a_character_that_is_cut_is_shown_at_its_last_token(tokenizer):
    from modelforge.modeling.tokenize.preview import BROKEN, TokenTexts

    ids = tokenizer("ab 🏴‍☠️ cd ⚓", add_special_tokens=False)["input_ids"]
    texts = TokenTexts(tokenizer).texts(ids)
    assert "".join(texts) == "ab 🏴‍☠️ cd ⚓"
    cut = TokenTexts(tokenizer).texts(ids[:-1])
    assert len(cut) == len(ids) - 1
    assert cut[-1].endswith(BROKEN)
    assert cut[:-1] == texts[:-2]
