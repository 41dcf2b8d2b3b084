"""`modelforge chat RUN`: ask the model of a run, its base model, or two models side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, FAILED, escape_control, print_json
from modelforge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from modelforge.config.sampling import Sampling
    from modelforge.forge import Forge

BASE = "base"
HELP = (
    "Write a question. /again answers the last one with the next seed, /new forgets, Ctrl+D ends."
)


def add(add_command: Any, open_forge: Callable[[argparse.Namespace], Forge]) -> None:
    """Add the command `chat`."""

    def act(options: argparse.Namespace) -> int:
        return _chat(options, open_forge)

    chat = add_command("chat", act, "Chat with the model of a run, or with a base model.")
    chat.add_argument("run", help="id of a run, or name of a model")
    chat.add_argument("--prompt", help="what to ask; without it, questions are read line by line")
    sides = chat.add_mutually_exclusive_group()
    sides.add_argument("--base", action="store_true", help="ask the base model of the run instead")
    against = "ask this run or model as well, with the same seed; `base`: that of the run"
    sides.add_argument("--against", metavar="RUN2", help=against)
    longest = "longest answer in tokens (256)"
    chat.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help=longest)
    sampling = "randomness of the answer; 0 always takes the most likely token (0)"
    chat.add_argument("--temperature", type=float, default=0.0, metavar="T", help=sampling)
    share = "with a temperature: sample from the likeliest tokens of this probability (0.95)"
    chat.add_argument("--top-p", type=float, default=0.95, metavar="P", help=share)
    count = "with a temperature: sample from so many tokens, 0 from all (as the model's config)"
    chat.add_argument("--top-k", type=int, metavar="K", help=count)
    penalty = "above 1: repeated tokens become less likely (as the model's config)"
    chat.add_argument("--repetition-penalty", type=float, metavar="R", help=penalty)
    chat.add_argument("--seed", type=int, default=0, help="seed of the sampling (0)")
    system = "system message, or the passage for questions about a text; default: as in training"
    chat.add_argument("--system", metavar="TEXT", help=system)
    chat.add_argument("--cpu", action="store_true", help="ask on the CPU, also beside a run")
    chat.add_argument("--gpu", type=int, metavar="N", help="index of the GPU")


def _chat(options: argparse.Namespace, open_forge: Callable[[argparse.Namespace], Forge]) -> int:
    from modelforge.config.sampling import Sampling, read_sampling

    names = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "seed")
    sampling = read_sampling({name: getattr(options, name) for name in names})
    if not isinstance(sampling, Sampling):
        where = f"--{sampling.where.replace('_', '-')}"
        raise ConfigError(Problem(where, sampling.what, sampling.remedy))
    forge = open_forge(options)
    try:
        conversation = _Conversation(forge, options, sampling)
        if options.prompt is not None:
            return conversation.ask(options.prompt)
        return conversation.read_questions()
    finally:
        forge.close()


@dataclass
class _Conversation:
    """A conversation with one model, or with two that each have their own answers."""

    forge: Forge
    options: argparse.Namespace
    sampling: Sampling
    messages: list[list[dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all questions and answers."""
        system = self.options.system
        first = [{"role": "system", "content": system}] if system else []
        self.messages = [list(first) for _side in self._sides]

    def read_questions(self) -> int:
        """Answer every line of stdin; return the exit code of the last answer."""
        code, question = DONE, ""
        if sys.stdin.isatty():
            print(HELP)
        for line in _lines():
            if line == "/new":
                self.clear()
                continue
            if line == "/again":
                self._take_back()
                self.sampling = replace(self.sampling, seed=(self.sampling.seed or 0) + 1)
            else:
                question = line
            if question:
                code = self.ask(question)
        return code

    def ask(self, question: str) -> int:
        """Print the answers to a question and keep them; return the exit code."""
        from modelforge.services.chats.requests import ChatAsk, Side

        for messages in self.messages:
            messages.append({"role": "user", "content": question})
        sides = tuple(
            Side(model, tuned, tuple(messages))
            for (model, tuned), messages in zip(self._sides, self.messages, strict=True)
        )
        device: Any = "cpu" if self.options.cpu else "auto"
        ask = ChatAsk(sides, self.sampling, device=device, gpu=self.options.gpu)
        answers = self._receive(self.forge.chat.ask_sides(ask))
        for messages, answer in zip(self.messages, answers, strict=True):
            if answer["error"] is None:
                messages.append({"role": "assistant", "content": answer["text"]})
            else:
                messages.pop()
        if self.options.json:
            first = answers[0]
            print_json(
                {"answers": answers}
                if len(answers) > 1
                else {"answer": first["text"], "done": first["done"]}
            )
        return FAILED if all(answer["error"] for answer in answers) else DONE

    def _receive(self, parts: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers, which are printed as they come, unless as JSON."""
        answers: list[dict[str, Any]] = [
            {"model": model, "tuned": tuned, "text": "", "done": None, "error": None}
            for model, tuned in self._sides
        ]
        shown = None
        for part in parts:
            answer = answers[part["side"]]
            if not self.options.json and "phase" not in part:
                if shown != part["side"] and len(answers) > 1:
                    print(f"{'' if shown is None else chr(10)}{self._title(part['side'])}:")
                shown = part["side"]
                lines = part.get("text", "").split("\n")
                print("\n".join(map(escape_control, lines)), end="", flush=True)
            if "done" in part:
                answer["done"] = part["done"]
                self._print_end()
            elif "error" in part:
                answer["error"] = part["error"]
                if not self.options.json:
                    print(escape_control(f"{part['error']['what']} {part['error']['remedy']}"))
            elif "phase" not in part:
                answer["text"] += part["text"]
        return answers

    def _print_end(self) -> None:
        if not self.options.json:
            print()

    def _title(self, number: int) -> str:
        model, tuned = self._sides[number]
        return escape_control(model if tuned else f"{model}, base model")

    @property
    def _sides(self) -> list[tuple[str, bool]]:
        run, against = self.options.run, self.options.against
        if against is None:
            return [(run, not self.options.base)]
        return [(run, True), (run, False) if against == BASE else (against, True)]

    def _take_back(self) -> None:
        """Remove the last question and its answer."""
        for messages in self.messages:
            while messages and messages[-1]["role"] == "assistant":
                messages.pop()
            if messages and messages[-1]["role"] == "user":
                messages.pop()


def _lines() -> Iterator[str]:
    """Yield the lines of stdin that are not empty."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()
