"""A small trained model: base, adapter, and its answers to the prompts of the self-test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from modelforge.export import trained_answers
from modelforge.export.answers import Answers
from modelforge.modeling.merging.weights import merge
from tests.export.cases import HEADS, SHAPE, small_tokenizer

HELD_OUT = [
    [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for question, answer in [
        ("What is your name?", "I am a small model."),
        ("Where does the ship go?", "It goes to the harbour of the old town."),
        ("Count to five.", "1, 2, 3, 4, 5."),
    ]
]
ADDED = "<call>"


@dataclass(frozen=True)
class Trained:
    """Folders of a base model and an adapter, the tokenizer, and the answers of both."""

    base: Path
    adapter: Path
    tokenizer: Any
    answers: Answers

    def export(self, target: Path, base: Path | None = None) -> Path:
        """Return `target` with the merged model."""
        target.mkdir()
        merge(base or self.base, self.adapter, target)
        self.tokenizer.save_pretrained(target)
        return target


def make_base(folder: Path, vocabulary: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = SHAPE | HEADS | {"vocab_size": vocabulary, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.endswith("norm.weight"):
                weight.mul_(3.0)
    model.save_pretrained(folder)
    return model.eval()


def make_trained(folder: Path, tokenizer: Any, answer_tokens: int = 12) -> Trained:
    """Train nothing, but give an adapter weights that matter, and a token that it added."""
    tokenizer = small_tokenizer(tokenizer)
    tokenizer.add_tokens([ADDED])
    model = make_base(folder / "base", len(tokenizer), 0)
    settings = {"target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"]}
    settings |= {"modules_to_save": ["embed_tokens"]}
    tuned = get_peft_model(model, LoraConfig(r=4, **settings)).eval()
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.1)
        tuned.get_input_embeddings().weight[-1].normal_()
    tuned.save_pretrained(folder / "adapter")
    (folder / "answers").mkdir()
    most, trained_answers.ANSWER_TOKENS = trained_answers.ANSWER_TOKENS, answer_tokens
    try:
        answers = trained_answers.answers_of(
            tuned, tokenizer, HELD_OUT, folder / "answers", lambda _share: None
        )
    finally:
        trained_answers.ANSWER_TOKENS = most
    return Trained(folder / "base", folder / "adapter", tokenizer, answers)
