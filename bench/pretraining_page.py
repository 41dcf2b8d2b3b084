"""The page docs/performance-pretraining.md, from the stored figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import rounds
from harness import RESULTS, ROOT, measured_on, spread

PAGE = ROOT / "docs" / "performance-pretraining.md"
SAMPLE = RESULTS / "pretraining-sample.txt"
HEAD = """# Performance: a model from nothing

Written by `python bench/pretraining.py` from the raw figures in `bench/results/`; measure one part
again with `python bench/pretraining.py learning`, `optimizers` or `speed`.

The text is that of Jane Austen's six novels, 4.0 MB in 275 chapters, from the Debian package
r-cran-janeaustenr (`bench/prose.py`). Eighteen chapters, 273 kB, are held out by the hash of their
text; all figures in bits per byte are of them. Five minutes on two cores show that training works,
not how good a model can get."""
Rows = Sequence[dict[str, Any]]
TITLES = {
    "app": "ModelForge",
    "bare": "torch alone (`bench/bare_pretraining.py`)",
    "nanochat": "nanochat's base_train, compiled",
}
OPTIMIZERS = {"normuon": "NorMuon", "muon": "Muon", "adamw_torch": "AdamW"}


def write(figures: dict[str, list[dict[str, Any]]]) -> None:
    """Write the page with the sections that have figures."""
    names = ("pretraining", "pretraining-optimizers", "pretraining-speed")
    sections = zip(names, (_learning, _optimizers, _speed), strict=True)
    parts = [HEAD]
    for name, section in sections:
        if rows := figures[name]:
            measured = f"Measured {measured_on().get(name, 'on an unknown machine')}."
            title, *lines = section(rows)
            parts.append("\n".join([f"## {title}", "", measured, "", *lines]))
    if parts == [HEAD]:
        parts.append("Nothing is measured yet.")
    text = "\n\n".join(parts) + "\n"
    PAGE.write_text(text, encoding="utf-8")
    print(text)


def _learning(rows: Rows) -> list[str]:
    found = {row["kind"]: row for row in rows if row["kind"] != "evaluation"}
    gram = next(row for name, row in found.items() if name.endswith("-gram"))
    lines = ["| step | seconds | bits per byte |", "| --: | --: | --: |"]
    curve = [row for row in rows if row["kind"] == "evaluation"]
    lines += [
        f"| {row['step']:.0f} | {row['seconds']:.0f} | {row['bits_per_byte']:.3f} |"
        for row in curve
    ]
    whole = found["whole held-out text"]["bits_per_byte"]
    name, bits = gram["kind"], gram["bits_per_byte"]
    relation = "fewer" if whole < bits else "more"
    return [
        "Against a byte n-gram (`bench/pretraining.py learning`)",
        *lines,
        "",
        (
            "Seconds count from Start: the worker, the tokenizer and the token files are in them. "
            f"The first step ended after {found['first step']['seconds']:.0f} s, the last after "
            f"{found['last step']['seconds']:.0f} s, the run after "
            f"{found['finished']['seconds']:.0f} s."
        ),
        "",
        f"- Bits per byte of the saved model on the whole held-out text: {whole:.3f}",
        (
            f"- A byte {name} with modified Kneser-Ney smoothing (`bench/ngram.py`), trained on "
            f"the same chapters and tested on the same: {bits:.3f}. The model needs "
            f"{abs(1 - whole / bits):.0%} {relation} bits"
        ),
        f"- gzip of the whole text: {found['gzip']['bits_per_byte']:.2f}",
        *_below(curve, bits),
        *_sample(),
    ]


def _below(curve: Rows, bits: float) -> list[str]:
    """Return when evaluations first were below the aim, and below the n-gram."""
    lines = []
    for bound, name in ((2.2, "2.2"), (bits, "the n-gram")):
        first = next((row for row in curve if row["bits_per_byte"] < bound), None)
        when = f"after {first['seconds']:.0f} s" if first else "not reached"
        lines.append(f"- First evaluation below {name}: {when}")
    return lines


def _sample() -> list[str]:
    if not SAMPLE.exists():
        return []
    quoted = [f"> {line}".rstrip() for line in SAMPLE.read_text("utf-8").strip().splitlines()]
    return ["", "What it writes, at temperature 0.7:", "", *quoted]


def _optimizers(rows: Rows) -> list[str]:
    best = [row for row in rows if row["is_best"]]
    steps = sorted({row["step"] for row in rows})
    lines = [
        f"| optimizer | rate | {' | '.join(f'{step:.0f} steps' for step in steps)} | seconds |",
        f"| --- | --: |{' --: |' * (len(steps) + 1)}",
    ]
    for name in dict.fromkeys(row["optimizer"] for row in rows):
        own = [row for row in best if row["optimizer"] == name]
        bits = [[row["bits_per_byte"] for row in own if row["step"] == step] for step in steps]
        last = [row["seconds"] for row in own if row["step"] == steps[-1]]
        cells = [f"{own[0]['rate']:g}", *(spread(values, 3) for values in bits), spread(last, 0)]
        lines.append(f"| {OPTIMIZERS[name]} | {' | '.join(cells)} |")
    return [
        "Muon against AdamW at equal tokens (`bench/pretraining.py optimizers`)",
        (
            f"Bits per byte, median and range of {len({row['seed'] for row in best})} seeds. Only "
            "the matrices inside the layers differ; embeddings and head have AdamW everywhere. The "
            "rate of the matrices is the best of those tried with the first seed:"
        ),
        "",
        *_tried(rows, steps[-1]),
        "",
        *lines,
    ]  # fmt: skip


def _tried(rows: Rows, last: float) -> list[str]:
    """Return a line per optimizer with the bits per byte of each rate."""
    first = min(row["seed"] for row in rows)
    lines = []
    for name, title in OPTIMIZERS.items():
        found = [
            f"{row['rate']:g}: {row['bits_per_byte']:.3f}"
            for row in rows
            if (row["optimizer"], row["seed"], row["step"]) == (name, first, last)
        ]
        if found:
            lines.append(f"- {title}: {', '.join(found)}")
    return lines


def _speed(rows: Rows) -> list[str]:
    good = rounds.counted(list(rows))
    ratios = [row["app_tokens_per_s"] / row["bare_tokens_per_s"] for row in good]
    titles = {name: title for name, title in TITLES.items() if f"{name}_tokens_per_s" in rows[0]}
    return [
        "Tokens per second against torch alone (`bench/pretraining.py speed`)",
        *rounds.table(list(rows), titles, "app"),
        "",
        f"{rounds.summary(list(rows))} Aim: at least 0.95 times the loop; the median is "
        f"{statistics.median(ratios):.2f}." if ratios else rounds.summary(list(rows)),
    ]  # fmt: skip
