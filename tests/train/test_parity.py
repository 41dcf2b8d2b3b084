"""The worker learns what a bare TRL script learns: the same losses, update for update."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

UPDATES = 20
SEED = 7
RATE = 0.01
# Whole numbers and plain words, so that a question ends where a token ends: TRL and we tokenize
# the same text then, and the rows differ in length, so that padding takes part.
# The template ends with the end of a turn. The starter's own writes a line break behind it, which
# TRL trains and we do not: the model has stopped by then.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = [f"What is {n} and {n + 1}" + " and more" * (n % 4) + "?" for n in range(24)]
ANSWERS = [f"It is {2 * n + 1}" + " or so" * (n % 3) + "." for n in range(24)]


def ours(bench: Any, tmp_path: Path, rows: list[dict[str, Any]], **answers: Any) -> list[float]:
    """Return the losses of a run of the worker."""
    bench.rows = tmp_path / "parity.jsonl"
    bench.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    template = tmp_path / "plain.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")
    run = bench.prepare(
        **{
            "model": {"chat_template": str(template)},
            "max_steps": UPDATES,
            "learning_rate": RATE,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "group_by_length": False,
            "lora_dropout": 0.1,
            "optim": "adamw_torch",
            "trainer": {"seed": SEED},
            **answers,
        }
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    return [event.data["loss"] for event in events if event.kind == "step"]


def theirs(model_path: Path, out: Path, trainer_of: Any, rows: list[dict[str, Any]]) -> list[float]:
    """Return the losses of plain TRL with the same settings, in its own words."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    config_class, trainer_class = trainer_of
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.chat_template = TEMPLATE
    set_seed(SEED)
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(model_path),
        args=config_class(
            output_dir=str(out),
            max_steps=UPDATES,
            learning_rate=RATE,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            gradient_checkpointing=False,
            max_grad_norm=0.3,
            weight_decay=0.001,
            optim="adamw_torch",
            lr_scheduler_type="cosine",
            warmup_steps=0.03,
            max_length=512,
            bf16=False,
            use_cpu=True,
            seed=SEED,
            data_seed=SEED,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.1,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def test_sft_has_the_losses_of_bare_trl(bench, tiny_model, tmp_path):
    from trl import SFTConfig, SFTTrainer

    pairs = list(zip(QUESTIONS, ANSWERS, strict=True))
    mine = ours(bench, tmp_path, [{"prompt": q, "completion": a} for q, a in pairs])
    chats = [{"prompt": turn("user", q), "completion": turn("assistant", a)} for q, a in pairs]
    bare = theirs(tiny_model, tmp_path / "bare", (SFTConfig, SFTTrainer), chats)
    assert len(mine) == len(bare) == UPDATES
    assert mine == pytest.approx(bare, abs=1e-5)
    assert mine[0] - mine[-1] > 0.2, "something is learned, so that equal means something"


@pytest.mark.slow
def test_dpo_has_the_losses_of_bare_trl(bench, tiny_model, tmp_path):
    from trl import DPOConfig, DPOTrainer

    worse = [f"No idea{' at all' * (n % 3)}." for n in range(24)]
    found = list(zip(QUESTIONS, ANSWERS, worse, strict=True))
    rows = [{"prompt": q, "chosen": a, "rejected": b} for q, a, b in found]
    mine = ours(bench, tmp_path, rows, strategy="dpo")
    chats = [
        {
            "prompt": turn("user", q),
            "chosen": turn("assistant", a),
            "rejected": turn("assistant", b),
        }
        for q, a, b in found
    ]
    bare = theirs(tiny_model, tmp_path / "bare", (DPOConfig, DPOTrainer), chats)
    assert len(mine) == len(bare) == UPDATES
    assert mine == pytest.approx(bare, abs=1e-5)
    assert mine[0] - mine[-1] > 0.1, "something is learned, so that equal means something"
