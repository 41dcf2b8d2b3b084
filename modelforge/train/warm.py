"""Request loop of the warm worker. Probes run in a thread so that stdin stays responsive."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import summarization_prefix
from modelforge.data.sources.load import iterate_rows, source_entries
from modelforge.data.sources.remote import remote_path
from modelforge.errors import DataError, ForgeError, Problem
from modelforge.modeling.errors import explain
from modelforge.modeling.providers.huggingface import load_config, load_tokenizer
from modelforge.modeling.tokenize.collate import sft_data_arguments
from modelforge.modeling.tokenize.lengths import measure_lengths
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preview import preview_tokens
from modelforge.modeling.tokenize.template import (
    ChatTemplate,
    seq2seq_template,
    stop_ids_of,
    template_of_run,
)
from modelforge.paths import find_home, folder_stamp
from modelforge.train.tools import fetch_dataset, fetch_remote

IDLE_TIMEOUT_S = 1.0
PROGRESS_INTERVAL_S = 0.2
MAX_ROWS = 64
MEASURED_ROWS = 5000
CACHED_TOKENIZERS = 3
Message = dict[str, Any]
Send = Callable[[Message], None]
Progress = Callable[..., None]


class ProbeCancelledError(Exception):
    """The result of the probe is no longer needed."""


class RequestLoop:
    """Runs probes in a thread, one at a time, until a run is assigned."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="probes")
        self._handler = ProbeHandler()
        self._newest: Future[None] | None = None

    def send(self, message: Message) -> None:
        """Send a message to the server, unless the loop is closed."""
        line = json.dumps(message, default=str) + "\n"
        with self._lock:
            if not self._closed.is_set():
                self._out.write(line)
                self._out.flush()

    def submit(self, probe: Message) -> None:
        """Queue a probe."""
        self._newest = self._executor.submit(self._run, probe)

    def close(self) -> bool:
        """Send nothing more; return whether no probe is running."""
        with self._lock:
            self._closed.set()
        self._executor.shutdown(wait=False)
        return self.wait_idle(0)

    def wait_idle(self, timeout_s: float = IDLE_TIMEOUT_S) -> bool:
        """Wait until the running probe has been cancelled; return whether it was."""
        return self._newest is None or not wait([self._newest], timeout_s).not_done

    def _run(self, probe: Message) -> None:
        if not self._closed.is_set():
            self._handler.handle(probe, self.send, self._closed.is_set)


@dataclass
class _CachedTokenizer:
    tokenizer: Any
    stop_ids: list[int]
    chat_template: Any
    pad_token: Any
    prefix: str = ""


class ProbeHandler:
    """Answers probes; tokenizers are cached until the files of their model change."""

    def __init__(self) -> None:
        self._tokenizers: dict[tuple[object, ...], _CachedTokenizer] = {}
        self._handlers = {
            "tokens": self._tokens,
            "lengths": self._lengths,
            "fetch": self._fetch,
            "fetch_remote": _fetch_remote,
            "memory": _memory,
        }

    def handle(self, probe: Message, send: Send, is_cancelled: Callable[[], bool]) -> None:
        """Send the result of a probe, or the error, and the progress at intervals."""
        probe_id = probe.get("id")
        sent_at = 0.0

        def progress(**facts: Any) -> None:
            nonlocal sent_at
            if is_cancelled():
                raise ProbeCancelledError
            if time.monotonic() - sent_at >= PROGRESS_INTERVAL_S:
                sent_at = time.monotonic()
                send({"probe": probe_id, "progress": facts})

        try:
            handler = self._handlers.get(str(probe.get("kind")))
            if handler is None:
                raise DataError(
                    Problem("probe", f"Unknown kind of probe: {probe.get('kind')}.", "")
                )
            send({"probe": probe_id, "result": handler(probe, progress)})
        except ProbeCancelledError:
            pass
        except Exception as error:  # noqa: BLE001  # the outermost frame: the worker stays warm
            send({"probe": probe_id, "error": _describe(error)})

    def _tokens(self, probe: Message, progress: Progress) -> Message:
        config, plan, template = self._read(probe)
        source, first = int(probe.get("source", 0)), int(probe.get("row", 0))
        count = max(1, min(int(probe.get("count", 1)), MAX_ROWS))
        rows = list(islice(_rows(probe, config, source, progress), first, first + count))
        if not rows:
            raise DataError(_no_row(probe["dataset"], first, source))
        options = TokenizeOptions.from_plan(config, plan)
        preview = preview_tokens(rows, template, options, sft_data_arguments(config, plan))
        position = {"row": first, "source": source, "max_length": plan.max_length}
        return preview.as_dict(template) | position

    def _lengths(self, probe: Message, progress: Progress) -> Message:
        config, plan, template = self._read(probe)
        limit = max(1, int(probe.get("most") or MEASURED_ROWS))
        rows = islice(_rows(probe, config, None, progress), limit)
        options = TokenizeOptions.from_plan(config, plan)
        return measure_lengths(rows, template, options, progress, limit)

    def _fetch(self, probe: Message, progress: Progress) -> Message:
        split = probe.get("split") or "train"
        source = fetch_dataset.HubDataset(probe["name"], probe.get("subset"), split)
        return fetch_dataset.fetch(source, find_home(), progress)

    def _read(self, probe: Message) -> tuple[TrainingConfig, Plan, ChatTemplate]:
        config = TrainingConfig.from_record(probe["config"])
        plan = Plan.from_dict(probe["plan"], probe["config"])
        return config, plan, self._template(config, plan)

    def _template(self, config: TrainingConfig, plan: Plan) -> ChatTemplate:
        cached = self._tokenizer(plan)
        tokenizer = cached.tokenizer
        # An earlier probe may have set another template.
        tokenizer.chat_template, tokenizer.pad_token = cached.chat_template, cached.pad_token
        if plan.facts.head != "causal":
            return seq2seq_template(tokenizer, cached.stop_ids, cached.prefix)
        return template_of_run(tokenizer, cached.stop_ids, config)

    def _tokenizer(self, plan: Plan) -> _CachedTokenizer:
        source = plan.tokenizer_path or plan.model_path
        key = plan.model_path, plan.model_revision, source, folder_stamp(source)
        if key not in self._tokenizers:
            tokenizer, generation = load_tokenizer(plan)
            while len(self._tokenizers) >= CACHED_TOKENIZERS:
                del self._tokenizers[next(iter(self._tokenizers))]
            is_seq2seq = plan.facts.head == "seq2seq"
            self._tokenizers[key] = _CachedTokenizer(
                tokenizer,
                stop_ids_of(generation),
                tokenizer.chat_template,
                tokenizer.pad_token,
                summarization_prefix(load_config(plan)) if is_seq2seq else "",
            )
        return self._tokenizers[key]


def _rows(
    probe: Message, config: TrainingConfig, source: int | None, progress: Progress
) -> Iterator[dict[str, Any]]:
    rows = iterate_rows(probe["dataset"], config.trainer.seed)
    for number, (row_source, row) in enumerate(rows, 1):
        if number % 1000 == 0:
            progress(done=number, text="Reading rows")
        if source is None or row_source == source:
            yield row
        elif row_source > source:
            return


def _fetch_remote(probe: Message, progress: Progress) -> Message:
    remote = remote_path(str(probe["address"]))
    if remote is None:
        raise DataError(Problem("dataset", "It is not an address in object storage.", ""))
    return fetch_remote.fetch(remote, find_home(), progress)


def _memory(probe: Message, _progress: Progress) -> Message:
    # Imported here: it imports bitsandbytes, which other probes do not need.
    from modelforge.train.memory_trace.trace import trace  # noqa: PLC0415

    plan = Plan.from_dict(probe["plan"], probe["config"])
    return trace(TrainingConfig.from_record(probe["config"]), plan, int(probe["length"]))


def _no_row(dataset: dict[str, Any], first: int, source: int) -> Problem:
    sources = source_entries(dataset)
    if not 0 <= source < len(sources):
        what = f"There is no source {source}; there are {len(sources)}, counted from 0."
        return Problem("source", what, "Choose another source.")
    name = Path(sources[source]["files"][0]).name
    what = f"{name} has no usable row {first:,}, counted from 0."
    return Problem("row", what, "Choose another row.")


def _describe(error: Exception) -> dict[str, str]:
    if isinstance(error, ForgeError):
        return error.problems[0].as_dict()
    traceback.print_exc()
    failure = explain(error)
    remedy = failure.remedy.replace("The run's log", "logs/spare.log in the home folder")
    return {"where": "worker", "what": failure.what, "remedy": remedy}
