"""A Llama of one layer and forty words, and a trainer of rows of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

SETTINGS = {
    "task": "text-generation",
    "model_name": "tiny",
    "dataset": "rows.jsonl",
    "compute_specs": "low_end",
    "use_4bit": False,
    "max_steps": 4,
    "learning_rate": 0.01,
    "warmup_ratio": 0,
}
IDS = [[1, 5, 2, 7, 3], [1, 6, 2, 9, 4]] * 4


def tiny_llama() -> Any:
    """Return a model of random weights, with a head of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        attention_bias=True,
        tie_word_embeddings=False,
        pad_token_id=3,
        eos_token_id=2,
        bos_token_id=1,
    )
    return LlamaForCausalLM(config)


def trainer_config(**settings: Any) -> TrainingConfig:
    """Return the config of a short run with these settings."""
    return TrainingConfig.from_record(SETTINGS | settings)


def trainer_for(
    model: Any, folder: Path, columns: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """Return the trainer of a run with these settings on rows of token ids."""
    from datasets import Dataset

    from modelforge.modeling.tokenize.dataset import Tokenized
    from modelforge.runs.layout import RunFolder
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import build_trainer

    config = trainer_config(**settings)
    plan = make_plan(config, PlanContext("cpu", "tiny", context=64))
    rows = Dataset.from_dict(columns or {"input_ids": IDS, "labels": IDS})
    rows = rows.add_column("row", list(range(len(rows))))
    loaded = type("Loaded", (), {"model": model, "tokenizer": _tokenizer()})
    job = Job(RunFolder(folder), "a try", config, plan, {})
    return build_trainer(job, loaded, Tokenized(rows, None))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({f"w{number}": number for number in range(40)}, unk_token="w0")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), eos_token="w2", pad_token="w3", unk_token="w0"
    )
