"""The whole path in the terminal: an answer before, a short training, the answer after."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING

from modelforge.cli.output import follow
from modelforge.config.resolve import Layer
from modelforge.data.sources.library import Sample, load_samples
from modelforge.errors import NotFoundError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge


def run_demo(forge: Forge, name: str, *, as_json: bool = False) -> int:
    """Teach the starter model one sample, show its answer before and after; return an exit code."""
    sample = _find(name)
    say = (lambda _text: None) if as_json else print
    say(f"{sample.title}: {sample.description}\n")
    say(f"The question, which is not in the data: {sample.question}")
    try:
        before = _answer(forge, "starter", sample.question)
        run_id = forge.runs.start(*_layers(forge, sample), name=f"demo · {sample.name}")
        view = follow(forge, run_id, quiet=as_json)
        if view.state != "finished":
            return 1
        after = _answer(forge, run_id, sample.question)
    finally:
        forge.close()
    folder = str(forge.runs.folder(run_id).path)
    if as_json:
        print(json.dumps({"before": before, "after": after, "run": run_id, "folder": folder}))
    else:
        print("\n" + side_by_side("before", before, "after", after))
        print(f"\nGo on talking to it: modelforge chat {run_id} --prompt '...'")
    return 0


def side_by_side(left_title: str, left: str, right_title: str, right: str) -> str:
    """Return two texts in two columns as wide as the terminal allows."""
    width = max(24, (min(shutil.get_terminal_size().columns, 110) - 3) // 2)
    columns = [
        [title, "─" * width, *textwrap.wrap(text.strip() or "(nothing)", width)]
        for title, text in ((left_title, left), (right_title, right))
    ]
    height = max(len(column) for column in columns)
    rows = zip(*(column + [""] * (height - len(column)) for column in columns), strict=True)
    return "\n".join(f"{one:<{width}} │ {two}".rstrip() for one, two in rows)


def _find(name: str) -> Sample:
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


def _answer(forge: Forge, target: str, question: str) -> str:
    parts = forge.chat.ask(target, [{"role": "user", "content": question}], max_new_tokens=80)
    return "".join(part.get("text", "") for part in parts if "phase" not in part)
