"""Evaluation loss of adapters, computed in the same way for all trainers.

The model runs in fp32, one row at a time, without padding; the loss is the mean over all answer
tokens.

python bench/held_out.py MODEL TEMPLATE HELD_OUT.jsonl ADAPTER...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Print the loss of each adapter, one JSON list."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model_path, template, data, *adapters = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in Path(data).read_text(encoding="utf-8").splitlines()]
    losses = []
    for adapter in adapters:
        base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, adapter).float().eval()
        total, count = 0.0, 0
        for row in rows:
            options = {"tokenize": True, "return_dict": False}
            prompt = tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, **options
            )
            chat = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], **options)
            ids = torch.tensor([chat])
            with torch.inference_mode():
                logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
            answer = ids[0, len(prompt) :]
            loss = torch.nn.functional.cross_entropy(logits, answer, reduction="sum")
            total, count = total + float(loss), count + len(answer)
        losses.append(total / count)
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
