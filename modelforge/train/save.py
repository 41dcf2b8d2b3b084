"""What a run leaves behind: adapter or model with its tokenizer, in one step or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from modelforge.modeling.adapters.carried import carried
from modelforge.runs.layout import RunFolder
from modelforge.train.cards import card


def save(run: RunFolder, model: Any, tokenizer: Any, *, name: str, steps: int) -> Path:
    """Write weights, tokenizer, chat template, generation config and card; return the folder."""
    staged = run.output_staged
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    is_adapter = hasattr(model, "peft_config")
    # Asked to decide by itself, PEFT looks the base model up on the Hub.
    if not is_adapter:
        model.config.use_cache = True  # off while training, and wanted for answers
    more = {"save_embedding_layers": False} if is_adapter else {}
    model.save_pretrained(staged, safe_serialization=True, **more)
    start = carried(model)
    if start is not None:
        start.settle(staged)
    tokenizer.save_pretrained(staged)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(staged)
    text = card(model, name=name, steps=steps, folder=run.output.name)
    (staged / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(run.output, ignore_errors=True)
    staged.rename(run.output)
    return run.output
