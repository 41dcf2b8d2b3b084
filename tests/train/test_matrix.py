"""Every allowed cell of task, strategy, kind of model and bits: trained, saved, opened, used.

Two updates each through the real worker, on the CPU, with tiny models of random weights. Cells that
the contract forbids are refused in words. The table of cells is printed at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError
from modelforge.runs.events import EventRecord

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

BITS: dict[str, dict[str, Any]] = {
    "4-bit": {"use_4bit": True, "lora_r": 4},
    "8-bit": {"use_4bit": False, "use_8bit": True, "lora_r": 4},
    "16-bit": {"use_4bit": False, "bf16": True, "lora_r": 4},
    "full": {"use_4bit": False, "adapter": {"enabled": False}},
}
WAYS = (
    ("text-generation", "sft", "decoder"),
    ("text-generation", "qlora", "decoder"),
    ("text-generation", "dpo", "decoder"),
    ("text-generation", "rlhf", "decoder"),
    ("summarization", "sft", "decoder"),
    ("summarization", "qlora", "decoder"),
    ("summarization", "sft", "encoder-decoder"),
    ("summarization", "qlora", "encoder-decoder"),
    ("extractive-question-answering", "sft", "decoder"),
    ("extractive-question-answering", "qlora", "decoder"),
    ("extractive-question-answering", "sft", "encoder"),
    ("extractive-question-answering", "qlora", "encoder"),
)
# qlora is LoRA on a quantized model: on 16 bits and on all weights it contradicts itself.
CELLS = [
    (*way, bits)
    for way, bits in product(WAYS, BITS)
    if way[1] != "qlora" or bits in ("4-bit", "8-bit")
]
FORBIDDEN = [
    *(
        ({"task": task, "strategy": strategy}, "strategy")
        for task in ("summarization", "extractive-question-answering")
        for strategy in ("dpo", "rlhf")
    ),
    ({"strategy": "qlora", "use_4bit": False}, "use_4bit"),
    ({"strategy": "qlora", "adapter": {"enabled": False}}, "adapter"),
    ({"adapter": {"enabled": False}, "use_4bit": True}, "adapter"),
    ({"adapter": {"enabled": False}, "use_4bit": False, "use_8bit": True}, "adapter"),
    ({"use_4bit": True, "use_8bit": True}, "use_"),
]
COLOURS = ("red", "blue", "green", "amber", "teal", "pink")
DONE: dict[tuple[str, ...], str] = {}


def rows_for(task: str, strategy: str) -> list[dict[str, Any]]:
    """Twelve rows of the kind that the cell learns from."""
    if strategy in ("dpo", "rlhf"):
        return [
            {"prompt": f"What is {one} {n}?", "chosen": f"{one} is {n}.", "rejected": "No idea."}
            for n, one in enumerate(COLOURS * 2)
        ]
    if task == "summarization":
        return [
            {"document": f"The {one} ship {n} set sail and came home.", "summary": f"{one} {n}"}
            for n, one in enumerate(COLOURS * 2)
        ]
    if task == "text-generation":
        return [{"input": f"Say {one} {n}", "output": one} for n, one in enumerate(COLOURS * 2)]
    return [
        {
            "context": f"Ship {n} is {one}. It sails west.",
            "question": f"What colour is ship {n}?",
            "answers": {"text": [one], "answer_start": [10 + len(str(n)) - 1]} if n % 4 else [],
        }
        for n, one in enumerate(COLOURS * 2)
    ]


@pytest.fixture(scope="module", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what became of every cell. Models so small are faster on one core."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    lines = [f"{'task':30} {'strategy':8} {'model':16} {'bits':7} output"]
    for (task, strategy, kind, bits), outcome in DONE.items():
        lines.append(f"{task:30} {strategy:8} {kind:16} {bits:7} {outcome}")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + "\n".join(lines))


@pytest.fixture
def models(tiny_model: Path, tiny_rewriter: Path, tiny_reader: Path) -> dict[str, Path]:
    return {"decoder": tiny_model, "encoder-decoder": tiny_rewriter, "encoder": tiny_reader}


def marks(strategy: str, bits: str) -> Any:
    """The strategies' own tests train on these weights in every change."""
    is_covered = strategy in ("dpo", "rlhf") and bits in ("8-bit", "16-bit")
    return pytest.mark.slow if is_covered else ()


@pytest.mark.parametrize(
    ("task", "strategy", "kind", "bits"),
    [pytest.param(*cell, marks=marks(cell[1], cell[3])) for cell in CELLS],
)
def test_an_allowed_cell_learns_saves_opens_again_and_answers(
    bench, write_rows, models, task, strategy, kind, bits
):
    bench.rows = write_rows(rows_for(task, strategy))
    how = {"trainer": {"max_completion_length": 8}} if strategy == "rlhf" else {}
    run = bench.prepare(
        model_path=str(models[kind]),
        kind=kind,
        task=task,
        strategy=strategy,
        max_steps=2,
        eval_split=0.25,
        eval_steps=2,
        evaluation={"generated_rows": 1},
        gradient_checkpointing=True,
        max_seq_length=64,
        **BITS[bits],
        **how,
    )
    events = bench.work(run)
    assert of(events, "finished"), of(events, "failed")
    plans = of(events, "plan")
    assert plans[-1]["total_steps"] == 2
    assert {step["step"] for step in of(events, "step")} >= {1, 2}
    assert run.has_model if bits == "full" else run.has_adapter
    outcome = used(run.output, models[kind], kind, whole=bits == "full")
    DONE[task, strategy, kind, bits] = outcome
    assert outcome


@pytest.mark.parametrize(("answers", "where"), FORBIDDEN)
def test_a_forbidden_cell_is_refused_in_words(answers, where):
    required = {
        "task": "text-generation", "model_name": "x", "dataset": "x", "compute_specs": "low_end",
    }  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        resolve(Layer("form", {**required, **answers}))
    for problem in refused.value.problems:
        assert problem.where.startswith(where)
        assert problem.what.endswith(".")
        assert problem.remedy.endswith(".")


def of(events: list[EventRecord], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


def used(output: Path, base: Path, kind: str, *, whole: bool) -> str:
    """Open what was saved as anybody would, let it answer, and say what came out."""
    import torch
    from peft import PeftModel
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForQuestionAnswering,
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
    )

    auto = {
        "decoder": AutoModelForCausalLM,
        "encoder-decoder": AutoModelForSeq2SeqLM,
        "encoder": AutoModelForQuestionAnswering,
    }[kind]
    tokenizer = AutoTokenizer.from_pretrained(output)
    model = auto.from_pretrained(output if whole else base)
    if not whole:
        assert json.loads((output / "adapter_config.json").read_text())["r"] == 4
        model = PeftModel.from_pretrained(model, output)
    model.eval()
    if kind == "encoder":
        batch = tokenizer("what colour?", "ship 1 is red.", return_tensors="pt")
        with torch.no_grad():
            found = model(**batch)
        start = int(found.start_logits.argmax())
        assert torch.isfinite(found.start_logits).all()
        return f"points at token {start} of {batch['input_ids'].shape[1]}"
    batch = tokenizer("The red ship", return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
        )
    return repr(tokenizer.decode(ids[0][-4:]))
