"""Reports of evaluations made by hand, with every part that a report can have."""

from __future__ import annotations

import copy
from typing import Any


def metric(
    name: str,
    label: str,
    unit: str,
    direction: str,
    contestants: dict[str, tuple[float, float, float]],
    difference: tuple[float, float, float, str] = (-1.0, -1.2, -0.8, "better"),
) -> dict[str, Any]:
    """Return a metric; a contestant has value, low and high."""
    value, low, high, kind = difference
    return {
        "name": name,
        "label": label,
        "help": f"What {label} tells.",
        "unit": unit,
        "direction": direction,
        "rows": 102,
        "contestants": {
            key: {"value": numbers[0], "interval": list(numbers[1:])}
            for key, numbers in contestants.items()
        },
        "difference": {"value": value, "interval": [low, high], "kind": kind},
    }


METRICS = [
    metric(
        "perplexity", "Perplexity", "ratio", "lower",
        {"base": (5.53, 5.02, 6.1), "prompted": (3.35, 3.09, 3.64), "tuned": (2.29, 2.15, 2.45)},
        (-3.24, -3.8, -2.7, "better"),
    ),
    metric(
        "rougeL", "ROUGE-L", "score", "higher",
        {"base": (0.21, 0.19, 0.23), "prompted": (0.34, 0.31, 0.37), "tuned": (0.52, 0.48, 0.56)},
    ),
    metric(
        "exact_match", "Exact match", "share", "higher",
        {"base": (0.0, 0.0, 0.04), "prompted": (0.06, 0.03, 0.12), "tuned": (0.24, 0.16, 0.33)},
    ),
    metric(
        "loss", "Loss", "nats", "lower",
        {"base": (1.71, 1.61, 1.81), "prompted": (1.21, 1.13, 1.29), "tuned": (0.83, 0.76, 0.9)},
        (-0.88, -1.0, -0.7, "better"),
    ),
]  # fmt: skip
GROUPS = [
    ("facts", "Facts", "capitals, dates, people", 18, 17, "no-clear-change"),
    ("arithmetic", "Arithmetic", "sums, shares, clock times", 14, 13, "no-clear-change"),
    ("instructions", "Instructions", "“in one sentence”, “without commas”", 16, 15,
     "no-clear-change"),
    ("formats", "Formats", "lists, tables, JSON, verse", 17, 9, "dropped"),
    ("refusals", "Refusals", "dangerous requests turned down", 19, 19, "no-clear-change"),
]  # fmt: skip
LOST = {
    "group": "formats",
    "prompt": "List three rivers as JSON.",
    "base": '["Rhine", "Nile", "Volga"]',
    "tuned": "Happy to help. The Rhine, the Nile and the Volga.",
    "rule": "a JSON list of three texts",
}
REPORT: dict[str, Any] = {
    "format_version": 1,
    "run": "r",
    "run_name": "support desk, first try",
    "created": 1_764_000_000.0,
    "seconds": 220.0,
    "verdict": {
        "kind": "better",
        "sentence": "Better than the base model and than a prompt with 5 examples.",
        "metric": "perplexity",
        "rows_needed": None,
    },
    "need": {
        "kind": "run",
        "sentence": "Yes. Five examples in the prompt close 67 % of the gap in perplexity, but add "
        "1,140 tokens to every question. The tuned model needs none of them.",
        "examples": 5,
        "prompt_tokens": 1140,
        "prompt": "Question: Where is my parcel?\nAnswer: Happy to look.",
    },
    "learned": {
        "kind": "answers",
        "sentence": "The answers, not only their style: right answers became likelier than "
        "exchanged ones.",
        "rows": 102,
        "gain": 0.79,
        "chance": 0.0001,
        "least_gain": 0.11,
        "right": {"base": 1.71, "tuned": 0.83},
        "exchanged": {"base": 2.4, "tuned": 2.31},
    },
    "metrics": METRICS,
    "against_prompt": {"better": 81, "worse": 14, "equal": 7, "p": 0.0002},
    "forgetting": {
        "kind": "dropped",
        "sentence": "Formats fell from 17 to 9, more than chance explains.",
        "prompts": 100,
        "base": 84,
        "tuned": 73,
        "interval": [-0.18, -0.04],
        "groups": [
            {"name": name, "label": label, "help": text, "prompts": 20, "base": base,
             "tuned": tuned, "kind": kind}
            for name, label, text, base, tuned, kind in GROUPS
        ],
        "lost": [LOST] * 8,
        "mix": {"rows": 62, "share": 0.13},
    },
    "rows": [
        {"kind": "never-learned", "lines": [33],
         "text": "“What are your opening hours on 24 December?”",
         "detail": "its loss went from 3.9 to 3.8; the average row went from 1.7 to 0.8",
         "loss": {"before": 3.9, "after": 3.8}},
        {"kind": "contradicting", "lines": [8, 41],
         "text": "Same question, two answers: 14 days and 30 days.",
         "detail": "the model can learn only one of them", "loss": None},
        {"kind": "dominating", "lines": [102, 18],
         "text": "A whole page of terms pasted as the answer.",
         "detail": "two rows of 410, but 13 % of the change to the model", "loss": None},
    ],
    "examples": [
        {"prompt": f"Can I return shoes I have worn {count} times?",
         "expected": "Yes, within 30 days, as long as the soles are clean.",
         "base": "It depends on the policy of the store. Many retailers accept returns.",
         "prompted": "Yes, within 14 days.",
         "tuned": "Yes, within 30 days, if the soles are clean.",
         "outcome": ("better", "worse", "equal")[count % 3]}
        for count in range(6)
    ],
    "tool_calls": None,
    "tasks": [],
    "notes": ["Evaluation rows 3 and 9 are longer than the context and are left out."],
    "facts": {"evaluation_rows": 102, "rows_used": 102, "examples": 5, "decoding": "greedy",
              "longest_answer": 256, "device": "cpu", "seed": 0},
}  # fmt: skip
GAPS: dict[str, Any] = {
    **dict.fromkeys(("need", "learned", "against_prompt", "forgetting", "tool_calls")),
    **{name: [] for name in ("metrics", "rows", "examples", "tasks", "notes")},
}


def report(**more: Any) -> dict[str, Any]:
    """Return a report with other parts."""
    return copy.deepcopy(REPORT) | more


def too_few() -> dict[str, Any]:
    """Return a report whose evaluation rows are too few."""
    verdict = {"kind": "too-few-rows", "sentence": "Too few rows to tell.", "metric": "perplexity",
               "rows_needed": 60}  # fmt: skip
    made = report(verdict=verdict, need=None, learned=None, against_prompt=None, rows=[])
    made["facts"] |= {"rows_used": 14, "evaluation_rows": 14}
    made["metrics"][0]["difference"] = {
        "value": -0.4, "interval": [-1.3, 0.5], "kind": "too-few-rows"
    }  # fmt: skip
    return made


def prompt_does() -> dict[str, Any]:
    """Return a report in which a prompt does as well as the run."""
    sentence = (
        "A prompt does as well. The five examples cost 1,140 tokens on every question; if that is "
        "acceptable, the prompt is simpler to change and forgets nothing."
    )
    verdict = {
        "kind": "no-difference",
        "sentence": "No difference shown between the tuned model and a prompt with 5 examples.",
        "metric": "perplexity",
        "rows_needed": None,
    }
    made = report(verdict=verdict)
    made["need"] |= {"kind": "prompt", "sentence": sentence}
    made["metrics"][0]["difference"] = {
        "value": -0.1, "interval": [-0.4, 0.2], "kind": "no-difference"
    }  # fmt: skip
    cell = {"value": 0.75, "interval": [0.6, 0.87]}
    part = {"base": None, "prompted": cell, "tuned": {"value": 0.9, "interval": [0.77, 0.97]}}
    made["tool_calls"] = {"rows": 40, "name": part, "arguments": part, "no_call": part}
    made["tasks"] = [
        {"task": "arc_easy", "metric": "acc", "base": 0.41, "tuned": 0.4, "interval": [-0.03, 0.01]}
    ]
    return made


def foreign(value: Any, payload: str) -> Any:
    """Return a report with the payload in every text, except for what the format defines."""
    if isinstance(value, dict):
        fixed = {"kind", "outcome", "direction", "unit", "name", "metric"}
        return {
            key: each if key in fixed else foreign(each, payload) for key, each in value.items()
        }
    if isinstance(value, list):
        return [foreign(each, payload) for each in value]
    return f"{value}{payload}" if isinstance(value, str) else value
