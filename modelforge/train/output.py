"""What a run leaves behind: the adapter with its tokenizer, in one step or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from modelforge.runs.layout import RunFolder

_CARD = """\
---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
---

# {name}

A LoRA adapter for `{base}`, trained with ModelForge for {steps:,} updates.

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
```
"""


def staging(run: RunFolder) -> Path:
    """Return where the output is made before it is put in place."""
    return run.path / ".output-staged"


def save(run: RunFolder, model: Any, tokenizer: Any, *, name: str, steps: int) -> Path:
    """Write adapter, tokenizer, chat template, generation config and card; return the folder."""
    staged = staging(run)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    # Asked to decide by itself, PEFT looks the base model up on the Hub.
    model.save_pretrained(staged, safe_serialization=True, save_embedding_layers=False)
    tokenizer.save_pretrained(staged)
    model.generation_config.save_pretrained(staged)
    base = model.peft_config["default"].base_model_name_or_path
    card = _CARD.format(base=base, name=name, steps=steps, folder=run.output.name)
    (staged / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(run.output, ignore_errors=True)
    staged.rename(run.output)
    return run.output
