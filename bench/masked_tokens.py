"""What a small model that grows from nothing with the masked objective predicts of masked tokens.

The text is that of the bundled samples: every fifth row is held out. Of each held-out row 15 % of
the tokens are masked, always the same. Loss and errors of the models after each stage are compared
with what the frequencies of the tokens alone give, with intervals over the rows.

    python bench/masked_tokens.py [--stages 2] [--steps 300] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from growing import train
from harness import keep, own_home, recorded
from planted_rows import read_sample, write

from modelforge.runs.progress.evaluation_losses import Batch, interval, mean

NAME = "growing-masked"
SAMPLES = ("captain", "general", "notices", "support")
BATCH, LENGTH, SHARE = 16, 64, 0.15
SHAPE = {"d_model": 128, "head_dim": 32, "vocab_size": 1024}
Predict = Callable[[Any], Any]


def main() -> None:
    """Grow the model, and print what each stage predicts of the masked tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = [text for sample in SAMPLES for each in read_sample(sample) for text in texts_of(each)]
    held, training = texts[::5], [text for at, text in enumerate(texts) if at % 5]
    with recorded(NAME), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [
            write(folder / name, [{"text": text} for text in part])
            for name, part in (("rows.jsonl", training), ("held.jsonl", held))
        ]
        run, seconds = train(own_home(folder / "home"), settings(options, files))
        models = [run.stage(number) for number in range(1, options.stages)] + [run.output]
        found = rows_of(models, training, held)
    for each in found:
        print(json.dumps(each))
    print(f"{seconds:.0f} s")
    keep(NAME, found)


def settings(options: argparse.Namespace, files: list[Path]) -> dict[str, Any]:
    """Return the settings of the run."""
    return {
        "model_name": "",
        "pretraining": {"enabled": True, **SHAPE},
        "progressive": {
            "enabled": True,
            "objective": "mlm",
            "stages": options.stages,
            "steps_per_stage": options.steps,
            "mask_min": SHARE,
            "mask_max": 2 * SHARE,
        },
        "dataset": str(files[0]),
        "data": {"validation_sources": [{"path": str(files[1])}]},
        "compute_specs": "low_end",
        "hardware": {"device": "cpu"},
        "learning_rate": 2e-3,
        "max_seq_length": LENGTH,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "eval_steps": options.steps,
        "trainer": {"seed": options.seed},
        "evaluation": {"samples": 0},
    }


def texts_of(row: dict[str, Any]) -> list[str]:
    """Return the texts of a row of a sample: its messages, or its columns."""
    values = [each["content"] for each in row["messages"]] if "messages" in row else row.values()
    return [" ".join(str(value) for value in values)]


def rows_of(models: list[Path], training: list[str], held: list[str]) -> list[dict[str, Any]]:
    """Return loss and accuracy of the frequencies, and of each model with what it is better by."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models[-1])

    def ids_of(text: str) -> Any:
        return tokenizer(text, return_tensors="pt").input_ids[0, :LENGTH]

    counts = torch.ones(len(tokenizer))
    for text in training:
        counts += torch.bincount(ids_of(text), minlength=len(tokenizer))
    usual = (counts / counts.sum()).log()
    rows = [ids for ids in map(ids_of, held) if len(ids) * SHARE >= 1]
    ways: dict[str, Predict] = {"frequencies": lambda ids: usual.expand(len(ids), -1)}
    for number, folder in enumerate(models, 1):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        assert model.config.is_causal is False, "it attends in both directions"
        ways[f"stage {number}"] = partial(log_shares, model)
    with torch.no_grad():
        scored = {way: masked(rows, predict, tokenizer) for way, predict in ways.items()}
    return [figures(way, scored["frequencies"], losses) for way, losses in scored.items()]


def log_shares(model: Any, ids: Any) -> Any:
    """Return the logarithms of the shares that a model gives each token: (tokens, vocabulary)."""
    return model(ids[None]).logits[0].log_softmax(-1)


def masked(rows: list[Any], predict: Predict, tokenizer: Any) -> tuple[list[Batch], list[Batch]]:
    """Return the losses, and the wrong tokens, of the masked tokens of each row."""
    import torch

    losses, wrong = [], []
    for at, ids in enumerate(rows):
        generator = torch.Generator().manual_seed(at)
        count = round(len(ids) * SHARE)
        places = torch.randperm(len(ids), generator=generator)[:count]
        predicted = predict(ids.index_fill(0, places, tokenizer.mask_token_id))[places]
        losses.append((-float(predicted.gather(1, ids[places, None]).sum()), count))
        wrong.append((float((predicted.argmax(-1) != ids[places]).sum()), count))
    return losses, wrong


def figures(
    way: str, usual: tuple[list[Batch], ...], of: tuple[list[Batch], ...]
) -> dict[str, Any]:
    """Return the figures of a way, and how much lower its loss is than that of the frequencies."""
    found: dict[str, Any] = {"way": way, "rows": len(of[0])}
    found["tokens"] = sum(count for _, count in of[0])
    for name, before, after in zip(("loss", "wrong"), usual, of, strict=True):
        low, high = interval(before, after)
        found[name] = round(mean(after), 4)
        found |= {f"{name}_low": round(low or 0.0, 4), f"{name}_high": round(high or 0.0, 4)}
    return found


if __name__ == "__main__":
    main()
