"""Train a language model from nothing on two cores, and write docs/performance-pretraining.md.

    python bench/pretraining.py                write the page from the stored figures
    python bench/pretraining.py learning       one run, against a byte 5-gram; 5 min
    python bench/pretraining.py optimizers     NorMuon, Muon and AdamW, three seeds each; 30 min
    python bench/pretraining.py speed          tokens per second against torch alone, and against
                                               nanochat where it is at hand; 10 min

The text is that of the novels of `prose.py`; the machine should be idle.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ngram
import pretraining_page
import prose
import rounds
from harness import ROOT, conditions, keep, kept, recorded, trained
from peers import nanochat

from modelforge.paths import Home
from modelforge.runs.events import EventRecord

LEARNING, OPTIMIZERS, SPEED = "pretraining", "pretraining-optimizers", "pretraining-speed"
N = 5
# The shape of all runs here: two layers.
DEPTH, ASPECT_RATIO, HEAD_DIM, VOCABULARY, CONTEXT = 2, 128, 64, 2048, 256
ROWS = 16
BATCH = ROWS * CONTEXT
STEPS = 700
# Fewer and smaller steps, so that the fifteen runs fit into half an hour.
COMPARED_STEPS, COMPARED_ROWS = 160, 8
SEEDS = (1, 2, 3)
SPEED_STEPS = 60
WARM_UP_STEPS = 10
# Learning rates for 2^19 tokens a step; the plan scales them to the batch. They are four times the
# defaults: in a training this short the default rates learn more slowly.
OPTIMIZER = {"matrix_lr": 0.08, "embedding_lr": 1.0, "unembedding_lr": 0.016}
# Rates of the matrices that each optimizer is tried with.
RATES = {
    "normuon": (0.04, 0.08, 0.16),
    "muon": (0.04, 0.08, 0.16),
    "adamw_torch": (0.01, 0.03, 0.1),
}


def settings(files: tuple[Path, Path], **changes: Any) -> dict[str, Any]:
    """Return the settings of a run: shape, text and length; others are defaults, but for rates."""
    train, held_out = files
    shape = {
        "enabled": True,
        "arch": "nanochat",
        "depth": DEPTH,
        "aspect_ratio": ASPECT_RATIO,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY,
        "total_batch_tokens": BATCH,
    }
    return {
        "pretraining": shape,
        "dataset": str(train),
        "data": {"validation_sources": [{"path": str(held_out)}]},
        "max_seq_length": CONTEXT,
        "per_device_train_batch_size": ROWS,
        "per_device_eval_batch_size": ROWS,
        "max_steps": STEPS,
        "eval_steps": STEPS // 10,
        "optimizer": OPTIMIZER,
        "compute_specs": "low_end",
        "logging": {"logging_steps": 1},
        **changes,
    }


def learning() -> None:
    """Train once, and compare with the n-gram."""
    novels = prose.novels()
    with recorded(LEARNING), tempfile.TemporaryDirectory() as folder:
        files = prose.write(novels, Path(folder))
        home = Home(Path(folder) / "home")
        began = time.time()
        events = trained(home, settings(files))
        (output,) = home.runs.glob("*/output")
        rows = [
            {"kind": "evaluation", "step": event.data["step"], "seconds": event.t - began,
             "bits_per_byte": event.data["metrics"]["bits_per_byte"]}
            for event in events if event.kind == "eval"
        ]  # fmt: skip
        rows += _ends(events, began)
        rows.append(_row("whole held-out text", bits_per_byte(output, novels.held_out)))
        text = continuation(output, "It is a truth universally acknowledged, that")
    rows += _ngrams(novels)
    keep(LEARNING, rows)
    pretraining_page.SAMPLE.write_text(text + "\n", encoding="utf-8")
    for row in rows:
        print(row)
    print(text)


def _ends(events: list[EventRecord], began: float) -> list[dict[str, Any]]:
    steps = [event for event in events if event.kind == "step"]
    return [
        {"kind": "first step", "seconds": steps[0].t - began},
        {"kind": "last step", "step": steps[-1].data["step"], "seconds": steps[-1].t - began},
        {"kind": "finished", "seconds": events[-1].t - began},
    ]


def _row(kind: str, bits: float) -> dict[str, Any]:
    return {"kind": kind, "bits_per_byte": bits}


def _ngrams(novels: prose.Prose) -> list[dict[str, Any]]:
    sides = [[text.encode() for text in side] for side in (novels.train, novels.held_out)]
    began = time.time()
    bits = ngram.KneserNey(sides[0], N).bits_per_byte(sides[1])
    return [
        {"kind": f"{N}-gram", "seconds": time.time() - began, "bits_per_byte": bits},
        _row("gzip", novels.gzip_bits()),
    ]


def bits_per_byte(folder: Path, texts: list[str]) -> float:
    """Return the bits per byte of a model on whole texts, in windows of the context.

    Each text begins with the document token, which is not counted.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    nats = 0.0
    for text in texts:
        ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text, verbose=False)["input_ids"]])
        for at in range(0, len(ids) - 1, CONTEXT):
            window = ids[at : at + CONTEXT + 1]
            with torch.inference_mode():
                logits = model(window[None, :-1]).logits[0].float()
            nats += float(cross_entropy(logits, window[1:], reduction="sum"))
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def continuation(folder: Path, prompt: str, tokens: int = 120) -> str:
    """Return a prompt with what a model writes after it, at temperature 0.7 with seed 0."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(prompt)["input_ids"]]])
    set_seed(0)
    found = model.generate(ids, max_new_tokens=tokens, do_sample=True, temperature=0.7)
    text: str = tokenizer.decode(found[0], skip_special_tokens=True)
    return text


def optimizers() -> None:
    """Train with each optimizer at equal tokens: three rates with one seed, the best with three.

    Optimizers whose figures are kept are not trained again.
    """
    rows = kept(OPTIMIZERS)
    done = {row["optimizer"] for row in rows}
    with recorded(OPTIMIZERS), tempfile.TemporaryDirectory() as folder:
        files = prose.write(prose.novels(), Path(folder))
        for name, rates in RATES.items():
            if name in done:
                continue
            tried = {rate: _compared(files, name, rate, SEEDS[0]) for rate in rates}
            best = min(tried, key=lambda rate: tried[rate][-1]["bits_per_byte"])
            runs = [*tried.values(), *(_compared(files, name, best, seed) for seed in SEEDS[1:])]
            rows += [row | {"is_best": int(row["rate"] == best)} for run in runs for row in run]
            keep(OPTIMIZERS, rows)


def _compared(files: tuple[Path, Path], name: str, rate: float, seed: int) -> list[dict[str, Any]]:
    """Train with an optimizer; return a row for each evaluation."""
    usual = settings(files)
    changes = {
        "pretraining": {**usual["pretraining"], "total_batch_tokens": COMPARED_ROWS * CONTEXT},
        "per_device_train_batch_size": COMPARED_ROWS,
        "max_steps": COMPARED_STEPS,
        "eval_steps": COMPARED_STEPS // 2,
        "trainer": {"seed": seed},
        "optim": name,
        "optimizer": {**OPTIMIZER, "matrix_lr": rate},
    }
    with tempfile.TemporaryDirectory() as folder:
        events = trained(Home(Path(folder)), settings(files, **changes))
    rows = [
        {
            "optimizer": name,
            "rate": rate,
            "seed": seed,
            "step": event.data["step"],
            "bits_per_byte": event.data["metrics"]["bits_per_byte"],
            "seconds": event.t - events[0].t,
        }
        for event in events
        if event.kind == "eval"
    ]
    print(rows[-1], flush=True)
    return rows


def speed(count: int = 5) -> None:
    """Compare tokens per second with torch alone and with nanochat, by turns."""
    novels = prose.novels()
    with recorded(SPEED), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = prose.write(novels, folder)
        programs: dict[str, Callable[[int], dict[str, Any]]] = {
            "app": partial(_app_speed, files, folder),
            "bare": partial(_bare_speed, _token_file(files[0], folder), folder),
        }
        if source := nanochat.checkout():
            base = folder / "nanochat"
            nanochat.prepare(source, base, novels.train, novels.held_out, VOCABULARY)
            programs["nanochat"] = partial(_nanochat_speed, source, base)
        keep(SPEED, rounds.measure(programs, "bare", count))


def _nanochat_speed(source: Path, base: Path, _seed: int) -> dict[str, Any]:
    """Train with nanochat, whose seed cannot be chosen."""
    options = {
        "depth": DEPTH,
        "aspect-ratio": ASPECT_RATIO,
        "head-dim": HEAD_DIM,
        "max-seq-len": CONTEXT,
        "window-pattern": "L",
        "device-type": "cpu",
        "device-batch-size": ROWS,
        "total-batch-size": BATCH,
        "num-iterations": SPEED_STEPS,
        "eval-every": -1,
        "core-metric-every": -1,
        "sample-every": -1,
    }
    return nanochat.train(source, base, options, WARM_UP_STEPS)


def _app_speed(files: tuple[Path, Path], folder: Path, seed: int) -> dict[str, Any]:
    home = Home(folder / f"speed-{seed}")
    changes = {
        "max_steps": SPEED_STEPS,
        "eval_steps": SPEED_STEPS,
        "optim": "muon",
        "optimizer": {**OPTIMIZER, "cautious_weight_decay": False},
        "weight_decay": 0.0,
        "trainer": {"seed": seed},
    }
    events = trained(home, settings(files, **changes))
    steps = [(e.t, e.data["loss"]) for e in events if e.kind == "step"]
    return _speed(steps)


def _bare_speed(tokens: Path, folder: Path, seed: int) -> dict[str, Any]:
    out = folder / "bare.json"
    values = {
        "vocabulary": VOCABULARY,
        "width": DEPTH * ASPECT_RATIO,
        "layers": DEPTH,
        "heads": DEPTH * ASPECT_RATIO // HEAD_DIM,
        "context": CONTEXT,
        "rows": ROWS,
        "accumulation": 1,
        "steps": SPEED_STEPS,
        "seed": seed,
        "optimizer": "muon",
        "rates": _bare_rates(),
        "decay": 0.5,
        "threads": 2,
    }
    script = str(ROOT / "bench" / "bare_pretraining.py")
    subprocess.run([sys.executable, script, str(tokens), json.dumps(values), str(out)], check=True)
    return _speed([(step["t"], step["loss"]) for step in json.loads(out.read_text("utf-8"))])


def _bare_rates() -> dict[str, float]:
    """Return the learning rates of the app: those of AdamW also follow from the width."""
    by_batch = math.sqrt(BATCH / 2**19)
    by_width = (DEPTH * ASPECT_RATIO / 768) ** -0.5
    return {
        "matrix": OPTIMIZER["matrix_lr"] * by_batch,
        "embedding": OPTIMIZER["embedding_lr"] * by_batch * by_width,
        "head": OPTIMIZER["unembedding_lr"] * by_batch * by_width,
    }


def _speed(steps: list[tuple[float, float]]) -> dict[str, Any]:
    """Return the speed after the first steps, from (time, loss) of each step."""
    (start, _), (end, loss) = steps[WARM_UP_STEPS - 1], steps[-1]
    tokens = BATCH * (len(steps) - WARM_UP_STEPS)
    return {
        "tokens_per_s": round(tokens / (end - start), 1),
        "tokens": BATCH * len(steps),
        "train_loss": round(loss, 4),
    }


def _token_file(path: Path, folder: Path) -> Path:
    """Return the token file of documents with a tokenizer trained on them, as the app makes it."""
    from modelforge.modeling.pretraining.token_file import write_token_file
    from modelforge.modeling.pretraining.tokenizer import train_tokenizer

    texts = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    tokenizer = train_tokenizer(texts, VOCABULARY, context=CONTEXT, chat_template="")
    out = folder / "tokens.bin"
    write_token_file(
        out,
        texts,
        lambda rows: tokenizer(rows, verbose=False)["input_ids"],
        document_id=tokenizer.bos_token_id,
        vocab_size=VOCABULARY,
    )
    return out


def main(names: list[str]) -> None:
    """Run the named benchmarks, and write the page."""
    known = {"learning": learning, "optimizers": optimizers, "speed": speed}
    if unknown := set(names) - set(known):
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(known)}.")
    print(conditions())
    for name in names:
        known[name]()
    figures = {name: kept(name) for name in (LEARNING, OPTIMIZERS, SPEED)}
    pretraining_page.write(figures)


if __name__ == "__main__":
    main(sys.argv[1:])
