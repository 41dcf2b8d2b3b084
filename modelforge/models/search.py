"""Models on the Hub that a task could use, by words of their names; asked only when told to."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLongError
from dataclasses import dataclass
from itertools import islice

import httpx
import huggingface_hub
from huggingface_hub.errors import OfflineModeIsEnabled

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.models.hub import is_offline, licence

WHERE = "model_name"
MOST = 12
LONGEST_QUERY = 100
LIMIT_S = 10.0
# What the Hub calls the models that a task can start from.
TAGS = {
    "text-generation": ("text-generation",),
    "summarization": ("summarization", "text2text-generation", "text-generation"),
    "extractive-question-answering": ("question-answering", "fill-mask"),
}


@dataclass(frozen=True)
class Found:
    """One model on the Hub; `parameters` in billions, None when it does not say."""

    name: str
    parameters: float | None
    licence: str
    gated: bool
    downloads: int


def search(query: str, task: str, *, endpoint: str | None = None) -> list[Found]:
    """Return models with safetensors whose names hold these words, the most used first.

    Raises ConfigError for a query that is none and NotFoundError when the Hub does not answer.
    """
    words = query.strip()
    if not 2 <= len(words) <= LONGEST_QUERY:
        what = f"{len(words)} letters are too {'few' if len(words) < 2 else 'many'} to search with."
        raise ConfigError(Problem(WHERE, what, f"Give 2 to {LONGEST_QUERY} letters of the name."))
    if is_offline():
        what = "HF_HUB_OFFLINE forbids to ask the Hub."
        remedy = "Unset it, use the model `starter`, or name a folder."
        raise NotFoundError(Problem(WHERE, what, remedy))
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        return pool.submit(_ask, words, TAGS.get(task, ()), endpoint).result(LIMIT_S)
    except (httpx.HTTPError, OSError, OfflineModeIsEnabled, TooLongError) as error:
        what = "The Hub cannot be reached, so it cannot be searched."
        remedy = "Check the network, use the model `starter`, or name a folder."
        raise NotFoundError(Problem(WHERE, what, remedy)) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ask(words: str, tags: Iterable[str], endpoint: str | None) -> list[Found]:
    api = huggingface_hub.HfApi(endpoint=endpoint)
    found: dict[str, Found] = {}
    for tag in tags:
        listed = api.list_models(
            search=words,
            pipeline_tag=tag,
            filter=["safetensors"],
            sort="downloads",
            limit=MOST,
            expand=["safetensors", "gated", "downloads", "tags"],
        )
        for info in islice(listed, MOST):
            found.setdefault(info.id, _read(info))
    return sorted(found.values(), key=lambda one: -one.downloads)[:MOST]


def _read(info: huggingface_hub.ModelInfo) -> Found:
    total = info.safetensors.total if info.safetensors else None
    return Found(
        name=info.id,
        parameters=total / 1e9 if total else None,
        licence=licence(info.tags or ()),
        gated=bool(info.gated),
        downloads=info.downloads or 0,
    )
