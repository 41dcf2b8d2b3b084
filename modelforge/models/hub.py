"""Look up and search models on the Hugging Face Hub and in its local cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLongError
from contextlib import contextmanager
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

from modelforge.errors import ConfigError, NotFoundError, Problem, RunError
from modelforge.models.safetensors_index import INDEX, weight_files

SETTING = "model_name"
HUB_LIMIT_S = 6.0
SEARCH_LIMIT_S = 10.0
MAX_RESULTS = 12
MAX_QUERY_CHARS = 100
# The Hub's pipeline tags of the models that each task can start from.
PIPELINE_TAGS = {
    "text-generation": ("text-generation",),
    "summarization": ("summarization", "text2text-generation", "text-generation"),
    "extractive-question-answering": ("question-answering", "fill-mask"),
}
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    *_TEMPLATES,
    INDEX,
    # The model card, which states the licence that exports pass on.
    "README.md",
)


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub: `folder` holds its small files, `files` the size of every file."""

    revision: str | None
    folder: Path
    files: dict[str, int]
    parameters: int | None
    licence: str = ""


@dataclass(frozen=True)
class SearchResult:
    """A model found on the Hub; `parameters` in billions, None if unknown."""

    name: str
    parameters: float | None
    licence: str
    gated: bool
    downloads: int


def is_offline() -> bool:
    """Return whether the environment prevents access to the Hub."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"} or constants.HF_HUB_OFFLINE


def cached_folder(name: str, cache: Path | None = None) -> Path | None:
    """Return the folder of a cached model with its config.json, or None."""
    path = huggingface_hub.try_to_load_from_cache(name, "config.json", cache_dir=cache)
    return Path(path).parent if isinstance(path, str) else None


def is_complete(folder: Path, files: dict[str, int]) -> bool:
    """Return whether a cached folder has every weight file."""
    names = weight_files(folder, files)
    return bool(names) and all(name in files for name in names)


def licence_from_tags(tags: Iterable[str]) -> str:
    """Return the licence in the tags of a model, or ""."""
    licences = (tag.removeprefix("license:") for tag in tags if tag.startswith("license:"))
    return next(licences, "")


def fetch_hub_model(
    name: str, *, endpoint: str | None = None, cache: Path | None = None
) -> HubModel:
    """Look up a model on the Hub, and download its small files to the cache, not the weights.

    Raises NotFoundError, ConfigError or RunError.
    """
    with hub_errors(name):
        return _fetch(name, endpoint, cache)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn the errors of the Hub's client into NotFoundError, ConfigError or RunError."""
    try:
        yield
    except GatedRepoError as error:
        raise NotFoundError(_gated(name)) from error
    except RepositoryNotFoundError as error:
        what = f"There is no model {name} on the Hub, or it is private."
        remedy = "Check the spelling. For a private model, run `hf auth login` or set HF_TOKEN."
        raise NotFoundError(Problem(SETTING, what, remedy)) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise _unreachable(name, error) from error
    except EntryNotFoundError as error:
        raise _no_config(name) from error
    except (httpx.HTTPError, TimeoutError) as error:
        raise _unreachable(name, error) from error
    except OSError as error:
        what = f"The files of {name} cannot be written to the Hub's cache: {error}."
        remedy = "Free disk space there, or set HF_HOME to a writable folder."
        raise RunError(Problem(SETTING, what, remedy)) from error


def _fetch(name: str, endpoint: str | None, cache: Path | None) -> HubModel:
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
        remedy = f"Accept it on {page} with the account of your token."
    return Problem(SETTING, f"{name} is gated: its licence must be accepted first.", remedy)


def _no_config(name: str) -> ConfigError:
    what = f"{name} has no config.json, so it is not a Transformers model."
    remedy = "Choose the original model, not a GGUF file or adapter."
    return ConfigError(Problem(SETTING, what, remedy))


def _unreachable(name: str, error: Exception) -> NotFoundError:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    why = f"answered {status}" if status else "cannot be reached"
    what = f"{name} is not on this machine, and the Hub {why}."
    remedy = "Check the network, or use the model `starter` or a local folder, which need none."
    return NotFoundError(Problem(SETTING, what, remedy))


def search_models(query: str, task: str, *, endpoint: str | None = None) -> list[SearchResult]:
    """Return models with safetensors whose names match the query, the most downloaded first.

    Raises ConfigError for an invalid query, NotFoundError if the Hub cannot be reached.
    """
    words = query.strip()
    if not 2 <= len(words) <= MAX_QUERY_CHARS:
        noun = "character" if len(words) == 1 else "characters"
        what = f"The search text has {len(words)} {noun}."
        remedy = f"Enter 2 to {MAX_QUERY_CHARS} characters of the name."
        raise ConfigError(Problem(SETTING, what, remedy))
    if is_offline():
        what = "HF_HUB_OFFLINE prevents access to the Hub."
        remedy = "Unset it, or use the model `starter` or a local folder."
        raise NotFoundError(Problem(SETTING, what, remedy))
    pool = ThreadPoolExecutor(max_workers=1)
    search = pool.submit(_list_models, words, PIPELINE_TAGS.get(task, ()), endpoint)
    try:
        return search.result(SEARCH_LIMIT_S)
    except (httpx.HTTPError, OSError, OfflineModeIsEnabled, TooLongError) as error:
        what = "The Hub cannot be reached."
        remedy = "Check the network, or use the model `starter` or a local folder."
        raise NotFoundError(Problem(SETTING, what, remedy)) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _list_models(words: str, tags: Iterable[str], endpoint: str | None) -> list[SearchResult]:
    api = huggingface_hub.HfApi(endpoint=endpoint)
    results: dict[str, SearchResult] = {}
    for tag in tags:
        models = api.list_models(
            search=words,
            pipeline_tag=tag,
            filter=["safetensors"],
            sort="downloads",
            limit=MAX_RESULTS,
            expand=["safetensors", "gated", "downloads", "tags"],
        )
        for info in islice(models, MAX_RESULTS):
            total = info.safetensors.total if info.safetensors else None
            results[info.id] = SearchResult(
                name=info.id,
                parameters=total / 1e9 if total else None,
                licence=licence_from_tags(info.tags or ()),
                gated=bool(info.gated),
                downloads=info.downloads or 0,
            )
    return sorted(results.values(), key=lambda result: -result.downloads)[:MAX_RESULTS]
