"""The page that lies with what a run has made: what it is, and how to load it."""

from __future__ import annotations

from typing import Any

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
