"""`modelforge samples RUN`: the answers of a run to the same prompts over time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, escape_control, print_json
from modelforge.cli.parsing import OpenForge

if TYPE_CHECKING:
    from modelforge.runs.samples import SampleAnswer, SampleTime

NONE_YET = "There are no samples. They are set by evaluation.samples; the first are of step 0."


def add(add_command: Any, open_forge: OpenForge) -> None:
    """Add the command `samples` to the parser."""
    about = "Show the answers of a run to the sample prompts before, during and after training."

    def act(options: argparse.Namespace) -> int:
        times = open_forge(options).runs.samples(options.run)
        return print_json(times) if options.json else _print(times)

    command = add_command("samples", act, about)
    command.add_argument("run", help="id of the run")


def _print(times: list[SampleTime]) -> int:
    if not times:
        print(NONE_YET)
        return DONE
    prompts = [answer.prompt for answer in times[0].answers]
    for number, prompt in enumerate(prompts):
        source = times[0].answers[number].source
        print(f"{escape_control(prompt)}  ({source})" if source else escape_control(prompt))
        for time in times:
            if number < len(time.answers):
                print(_line(time, time.answers[number]))
        expected = times[0].answers[number].expected
        if expected:
            print(f"  expected  {escape_control(expected)}")
        print()
    return DONE


def _line(time: SampleTime, answer: SampleAnswer) -> str:
    step = f"step {time.step:,}" if time.step else "base"
    loss = "" if time.eval_loss is None else f"  loss {time.eval_loss:.2f}"
    cut = " [cut]" if answer.cut else ""
    return f"  {step}{loss}  {escape_control(answer.text) or '(empty)'}{cut}"
