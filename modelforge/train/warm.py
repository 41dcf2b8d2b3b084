"""A spare's time until its run: probes are answered beside the ear, which stays on the pipe."""

from __future__ import annotations

import json
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import summarization_prefix
from modelforge.data.chat_templates import template_text
from modelforge.data.sources.load import iterate_rows, source_entries
from modelforge.errors import DataError, ForgeError, Problem
from modelforge.modeling.errors import explain
from modelforge.modeling.providers.huggingface import load_config, load_tokenizer
from modelforge.modeling.tokenize.collate import sft_data_arguments
from modelforge.modeling.tokenize.lengths import measure_lengths
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preview import preview_tokens
from modelforge.modeling.tokenize.template import (
    ChatTemplate,
    load_chat_template,
    seq2seq_template,
    stop_ids_of,
)
from modelforge.paths import find_home
from modelforge.train.tools import fetch_dataset

LET_GO_S = 1.0


class RequestLoop:
    """Answers probes in a thread of its own, one at a time, until a run comes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._speaking = threading.Lock()
        self._asked: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._pending = 0
        self._is_over = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None

    def say(self, what: dict[str, Any]) -> None:
        """Say one thing to the server, unless a run has come."""
        line = json.dumps(what, default=str) + "\n"
        with self._speaking:
            if not self._is_over.is_set():
                self._out.write(line)
                self._out.flush()

    def probe(self, probe: dict[str, Any]) -> None:
        """Have a probe answered as soon as those before it are."""
        with self._speaking:
            self._pending += 1
            self._idle.clear()
        self._asked.put(probe)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
            self._thread.start()

    def end(self) -> bool:
        """Say nothing more; return whether no probe is at work."""
        with self._speaking:
            self._is_over.set()
        self._asked.put(None)
        return self._idle.is_set()

    def wait(self, limit_s: float = LET_GO_S) -> bool:
        """Wait until the probe at work has noticed the end; return whether it has."""
        return self._idle.wait(limit_s)

    def _run(self) -> None:
        probes = ProbeHandler()
        while (probe := self._asked.get()) is not None:
            if not self._is_over.is_set():
                probes.answer(probe, self.say, lambda: not self._is_over.is_set())
            with self._speaking:
                self._pending -= 1
                if not self._pending:
                    self._idle.set()


EVERY_S = 0.2
MOST_ROWS = 64
MEASURED = 5000
TOKENIZERS_KEPT = 3
Answer = dict[str, Any]
Say = Callable[[dict[str, Any]], None]


class ProbeCancelledError(Exception):
    """The probe is no longer wanted."""


@dataclass
class _Known:
    tokenizer: Any
    stops: list[int]
    template: Any
    pad: Any
    lead: str = ""


class ProbeHandler:
    """Answers one probe after the other; tokenizers are loaded once and kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], _Known] = {}
        self._kinds = {
            "tokens": self._tokens,
            "lengths": self._lengths,
            "fetch": self._fetch,
            "memory": _memory,
        }

    def answer(self, probe: dict[str, Any], say: Say, wanted: Callable[[], bool]) -> None:
        """Say the result of a probe or what stands against it, and how far it is now and then."""
        number = probe.get("id")
        told = 0.0

        def progress(**facts: Any) -> None:
            nonlocal told
            if not wanted():
                raise ProbeCancelledError
            if time.monotonic() - told >= EVERY_S:
                told = time.monotonic()
                say({"probe": number, "progress": facts})

        try:
            kind = self._kinds.get(str(probe.get("kind")))
            if kind is None:
                problem = Problem("probe", f"{probe.get('kind')} is no kind of probe.", "")
                raise DataError(problem)
            say({"probe": number, "result": kind(probe, progress)})
        except ProbeCancelledError:
            pass
        except Exception as error:  # noqa: BLE001  # the outermost frame: the spare lives on
            say({"probe": number, "error": _in_words(error)})

    def _tokens(self, probe: Answer, progress: Callable[..., None]) -> Answer:
        config, plan, dialect = self._asked(probe)
        source, first = int(probe.get("source", 0)), int(probe.get("row", 0))
        count = max(1, min(int(probe.get("count", 1)), MOST_ROWS))
        rows = list(islice(_rows(probe, config, source, progress), first, first + count))
        if not rows:
            raise DataError(_no_row(probe["dataset"], first, source))
        view = preview_tokens(
            rows, dialect, TokenizeOptions.from_plan(config, plan), sft_data_arguments(config, plan)
        )
        about = {"row": first, "source": source, "max_length": plan.max_length}
        return view.as_dict(dialect) | about

    def _lengths(self, probe: Answer, progress: Callable[..., None]) -> Answer:
        config, plan, dialect = self._asked(probe)
        most = max(1, int(probe.get("most") or MEASURED))
        rows = islice(_rows(probe, config, None, progress), most)
        return measure_lengths(
            rows, dialect, TokenizeOptions.from_plan(config, plan), progress, most
        )

    def _fetch(self, probe: Answer, progress: Callable[..., None]) -> Answer:
        wish = fetch_dataset.Wish(probe["name"], probe.get("subset"), probe.get("split") or "train")
        return fetch_dataset.fetch(wish, find_home(), progress)

    def _asked(self, probe: Answer) -> tuple[TrainingConfig, Plan, ChatTemplate]:
        config = TrainingConfig(**probe["config"])
        plan = Plan.from_dict(probe["plan"], probe["config"])
        return config, plan, self._dialect(config, plan)

    def _dialect(self, config: TrainingConfig, plan: Plan) -> ChatTemplate:
        key = plan.model_path, plan.model_revision
        if key not in self._known:
            tokenizer, generation = load_tokenizer(plan)
            while len(self._known) >= TOKENIZERS_KEPT:
                del self._known[next(iter(self._known))]
            stops = stop_ids_of(generation)
            own = tokenizer.chat_template, tokenizer.pad_token
            lead = summarization_prefix(load_config(plan)) if plan.facts.head == "seq2seq" else ""
            self._known[key] = _Known(tokenizer, stops, *own, lead)
        known = self._known[key]
        # The last question may have taught it another template.
        known.tokenizer.chat_template, known.tokenizer.pad_token = known.template, known.pad
        if plan.facts.head != "causal":
            return seq2seq_template(known.tokenizer, known.stops, known.lead)
        return load_chat_template(
            known.tokenizer,
            known.stops,
            template=template_text(config.model.chat_template),
            system_prompt=config.model.system_prompt,
        )


def _rows(
    probe: Answer, config: TrainingConfig, source: int | None, progress: Callable[..., None]
) -> Iterator[dict[str, Any]]:
    for number, (place, row) in enumerate(iterate_rows(probe["dataset"], config.trainer.seed)):
        if number % 1000 == 999:
            progress(done=number + 1, text="Reading rows")
        if source is None or place == source:
            yield row
        elif place > source:
            return


def _memory(probe: Answer, _progress: Callable[..., None]) -> Answer:
    # Imported here: it brings layers of bitsandbytes, which other probes do without.
    from modelforge.train.memory_trace.trace import trace  # noqa: PLC0415

    plan = Plan.from_dict(probe["plan"], probe["config"])
    return trace(TrainingConfig(**probe["config"]), plan, int(probe["length"]))


def _no_row(dataset: dict[str, Any], first: int, source: int) -> Problem:
    sources = source_entries(dataset)
    if not 0 <= source < len(sources):
        what = f"There is no source {source}; there are {len(sources)}, counted from 0."
        return Problem("source", what, "Ask for another source.")
    name = Path(sources[source]["files"][0]).name
    what = f"{name} has no usable row {first:,}, counted from 0."
    return Problem("row", what, "Ask for a row that is there.")


def _in_words(error: Exception) -> dict[str, str]:
    if isinstance(error, ForgeError):
        return error.problems[0].as_dict()
    traceback.print_exc()
    failure = explain(error)
    remedy = failure.remedy.replace("The run's log", "logs/spare.log in the home folder")
    return {"where": "worker", "what": failure.what, "remedy": remedy}
