"""`modelforge demo`: train the starter model on a sample, and compare its answers."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING

from modelforge.cli.follow import follow
from modelforge.cli.output import DONE, print_table
from modelforge.config.resolve import Layer
from modelforge.config.sampling import Sampling
from modelforge.data.sources.library import Sample, load_samples
from modelforge.errors import NotFoundError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge


def run_demo(forge: Forge, name: str, *, as_json: bool = False) -> int:
    """Train the starter model on a sample, print its answer before and after; return exit code."""
    sample = _find_sample(name)
    if not as_json:
        print(f"{sample.title}: {sample.description}\n")
        print(f"The prompt, which is not in the data: {sample.question}")
    try:
        before = _answer(forge, "starter", sample.question)
        run_id = forge.runs.start(*_layers(forge, sample), name=f"demo · {sample.name}")
        code = follow(forge, run_id, quiet=as_json).exit_code
        if code != DONE:
            return code
        after = _answer(forge, run_id, sample.question)
    finally:
        forge.close()
    folder = str(forge.runs.folder(run_id).path)
    if as_json:
        print(json.dumps({"before": before, "after": after, "run": run_id, "folder": folder}))
    else:
        print()
        print_side_by_side("before", before, "after", after)
        print(f"\nTo continue chatting: modelforge chat {run_id} --prompt '...'")
    return DONE


def print_side_by_side(left_title: str, left: str, right_title: str, right: str) -> None:
    """Print two texts in two columns, at most 110 characters wide."""
    width = max(24, (min(shutil.get_terminal_size().columns, 110) - 3) // 2)
    cells = [
        "\n".join(textwrap.wrap(text.strip() or "(empty)", width)).splitlines()
        for text in (left, right)
    ]
    height = max(len(lines) for lines in cells)
    padded = [lines + [""] * (height - len(lines)) for lines in cells]
    print_table(zip(*padded, strict=True), [left_title, right_title])


def _find_sample(name: str) -> Sample:
    by_name = {sample.name: sample for sample in load_samples()}
    if name not in by_name:
        remedy = f"Choose one of {', '.join(by_name)}."
        raise NotFoundError(Problem("--sample", f"There is no sample {name}.", remedy))
    return by_name[name]


def _layers(forge: Forge, sample: Sample) -> list[Layer]:
    prefill = forge.layers.prefill()
    chosen = {"model_name": "starter", "dataset": sample.dataset, "task": sample.task}
    if prefill.values.get("strategy") not in sample.strategies:
        chosen["strategy"] = sample.strategies[0]
    return [Layer(prefill.title, prefill.values), Layer("demo", chosen)]


def _answer(forge: Forge, target: str, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    parts = forge.chat.ask(target, messages, Sampling(max_new_tokens=80))
    return "".join(part.get("text", "") for part in parts if "phase" not in part)
