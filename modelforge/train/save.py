"""What a run leaves behind: adapter or model with its tokenizer, in one step or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from modelforge.modeling.adapters.init import AdapterInit
from modelforge.runs.layout import RunFolder


def save(
    run: RunFolder,
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    steps: int,
    adapter_init: AdapterInit | None = None,
) -> Path:
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
    if adapter_init is not None:
        adapter_init.convert_saved_adapter(staged)
    tokenizer.save_pretrained(staged)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(staged)
    text = card(model, name=name, steps=steps, folder=run.output.name)
    (staged / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(run.output, ignore_errors=True)
    staged.rename(run.output)
    return run.output


_FRONT = """\
---
base_model: {base}
library_name: {library}
pipeline_tag: {tag}
---

# {name}

{what}, trained with ModelForge for {steps:,} updates.

```python
from {library} import {auto}
from transformers import AutoTokenizer

model = {auto}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```
"""
# By the end of the class: what the Hub calls the task, and the class that loads it.
_HEADS = {
    "ForConditionalGeneration": ("summarization", "ModelForSeq2SeqLM"),
    "ForQuestionAnswering": ("question-answering", "ModelForQuestionAnswering"),
    "ForSequenceClassification": ("text-classification", "ModelForSequenceClassification"),
}
_WRITES = ("text-generation", "ModelForCausalLM")


def card(model: Any, *, name: str, steps: int, folder: str) -> str:
    """Return the text of the page for an adapter or a whole model."""
    is_adapter = hasattr(model, "peft_config")
    inner = model.get_base_model() if is_adapter else model
    base = model.peft_config["default"].base_model_name_or_path if is_adapter else ""
    base = base or inner.config.name_or_path
    ending = next((end for end in _HEADS if type(inner).__name__.endswith(end)), None)
    tag, auto = _HEADS[ending] if ending and _is_head(inner, ending) else _WRITES
    what = f"A LoRA adapter for `{base}`" if is_adapter else f"`{base}` with all of its weights"
    return _FRONT.format(
        base=base,
        library="peft" if is_adapter else "transformers",
        tag=tag,
        name=name,
        what=what,
        steps=steps,
        auto=f"AutoPeft{auto}" if is_adapter else f"Auto{auto}",
        folder=folder,
    )


def _is_head(model: Any, ending: str) -> bool:
    # Decoders that also see pictures are called ForConditionalGeneration too.
    return ending != "ForConditionalGeneration" or bool(model.config.is_encoder_decoder)
