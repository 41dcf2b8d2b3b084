"""What the Hugging Face Hub, or its cache on this disk, says of a model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLongError
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from modelforge.errors import ConfigError, ForgeError, NotFoundError, Problem, RunError
from modelforge.models.safetensors_index import INDEX, weight_files

HUB_LIMIT_S = 6.0
_SMALL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
)


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub: its small files lie in `folder`, `files` has the size of each file."""

    revision: str | None
    folder: Path
    files: dict[str, int]
    parameters: int | None
    licence: str = ""


def is_offline() -> bool:
    """Say whether the environment forbids to ask the Hub."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in {"1", "ON", "YES", "TRUE"} or constants.HF_HUB_OFFLINE


def cached_folder(name: str, cache: Path | None = None) -> Path | None:
    """Return the folder in the Hub's cache that holds this model's config.json, if there is one."""
    found = huggingface_hub.try_to_load_from_cache(name, "config.json", cache_dir=cache)
    return Path(found).parent if isinstance(found, str) else None


def is_complete(folder: Path, files: dict[str, int]) -> bool:
    """Say whether the cached folder has every weight file."""
    names = weight_files(folder, files)
    return bool(names) and all(name in files for name in names)


def licence_from_tags(tags: Iterable[str]) -> str:
    """Return the licence that the tags name, or nothing."""
    named = (tag.removeprefix("license:") for tag in tags if tag.startswith("license:"))
    return next(named, "")


def fetch_hub_model(
    name: str, *, endpoint: str | None = None, cache: Path | None = None
) -> HubModel:
    """Ask the Hub, and fetch the small files into its cache; the weights stay where they are."""
    try:
        return _look_up(name, endpoint, cache)
    except GatedRepoError as error:
        raise NotFoundError(_gated(name)) from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(
            Problem(
                "model_name",
                f"There is no model {name} on the Hub, or it is private.",
                "Check the spelling. For a private model, run `hf auth login` or set HF_TOKEN.",
            )
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise _unreachable(name, error) from error
    except EntryNotFoundError as error:
        raise _no_config(name) from error
    except (httpx.HTTPError, TimeoutError) as error:
        raise _unreachable(name, error) from error
    except OSError as error:
        raise RunError(
            Problem(
                "model_name",
                f"The files of {name} cannot be written to the Hub's cache: {error}.",
                "Make room on that disk, or set HF_HOME to a folder that can be written.",
            )
        ) from error


def _look_up(name: str, endpoint: str | None, cache: Path | None) -> HubModel:
    disable_progress_bars()
    info = huggingface_hub.HfApi(endpoint=endpoint).model_info(
        name, files_metadata=True, timeout=HUB_LIMIT_S
    )
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if "config.json" not in files:
        raise _no_config(name)
    paths = [
        huggingface_hub.hf_hub_download(
            name,
            file,
            revision=info.sha,
            cache_dir=cache,
            etag_timeout=HUB_LIMIT_S,
            endpoint=endpoint,
        )
        for file in _SMALL_FILES
        if file in files
    ]
    parameters = info.safetensors.total if info.safetensors else None
    folder = Path(paths[0]).parent
    return HubModel(info.sha, folder, files, parameters, licence_from_tags(info.tags or ()))


def _gated(name: str) -> Problem:
    page = f"https://huggingface.co/{name}"
    if huggingface_hub.get_token() is None:
        remedy = f"Accept it on {page}, then run `hf auth login` or set HF_TOKEN."
    else:
        remedy = f"Accept it on {page} with the account that your token belongs to."
    return Problem("model_name", f"{name} is gated: its licence must be accepted first.", remedy)


def _no_config(name: str) -> ConfigError:
    return ConfigError(
        Problem(
            "model_name",
            f"{name} has no config.json, so it is no Transformers model.",
            "Choose the original of the model, not a GGUF or adapter of it.",
        )
    )


def _unreachable(name: str, error: Exception) -> ForgeError:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    why = f"answered {status}" if status else "cannot be reached"
    return NotFoundError(
        Problem(
            "model_name",
            f"{name} is not on this machine, and the Hub {why}.",
            "Check the network, use the model `starter`, which needs none, or name a folder.",
        )
    )


WHERE = "model_name"
MAX_RESULTS = 12
MAX_QUERY_CHARS = 100
SEARCH_LIMIT_S = 10.0
# What the Hub calls the models that a task can start from.
PIPELINE_TAGS = {
    "text-generation": ("text-generation",),
    "summarization": ("summarization", "text2text-generation", "text-generation"),
    "extractive-question-answering": ("question-answering", "fill-mask"),
}


@dataclass(frozen=True)
class SearchResult:
    """One model on the Hub; `parameters` in billions, None when it does not say."""

    name: str
    parameters: float | None
    licence: str
    gated: bool
    downloads: int


def search_models(query: str, task: str, *, endpoint: str | None = None) -> list[SearchResult]:
    """Return models with safetensors whose names hold these words, the most used first.

    Raises ConfigError for a query that is none and NotFoundError when the Hub does not answer.
    """
    words = query.strip()
    if not 2 <= len(words) <= MAX_QUERY_CHARS:
        what = f"{len(words)} letters are too {'few' if len(words) < 2 else 'many'} to search with."
        raise ConfigError(Problem(WHERE, what, f"Give 2 to {MAX_QUERY_CHARS} letters of the name."))
    if is_offline():
        what = "HF_HUB_OFFLINE forbids to ask the Hub."
        remedy = "Unset it, use the model `starter`, or name a folder."
        raise NotFoundError(Problem(WHERE, what, remedy))
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        return pool.submit(_ask, words, PIPELINE_TAGS.get(task, ()), endpoint).result(
            SEARCH_LIMIT_S
        )
    except (httpx.HTTPError, OSError, OfflineModeIsEnabled, TooLongError) as error:
        what = "The Hub cannot be reached, so it cannot be searched."
        remedy = "Check the network, use the model `starter`, or name a folder."
        raise NotFoundError(Problem(WHERE, what, remedy)) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ask(words: str, tags: Iterable[str], endpoint: str | None) -> list[SearchResult]:
    api = huggingface_hub.HfApi(endpoint=endpoint)
    found: dict[str, SearchResult] = {}
    for tag in tags:
        listed = api.list_models(
            search=words,
            pipeline_tag=tag,
            filter=["safetensors"],
            sort="downloads",
            limit=MAX_RESULTS,
            expand=["safetensors", "gated", "downloads", "tags"],
        )
        for info in islice(listed, MAX_RESULTS):
            found.setdefault(info.id, _read(info))
    return sorted(found.values(), key=lambda one: -one.downloads)[:MAX_RESULTS]


def _read(info: huggingface_hub.ModelInfo) -> SearchResult:
    total = info.safetensors.total if info.safetensors else None
    return SearchResult(
        name=info.id,
        parameters=total / 1e9 if total else None,
        licence=licence_from_tags(info.tags or ()),
        gated=bool(info.gated),
        downloads=info.downloads or 0,
    )
