"""A data set of the Hub to a file in the home, by the loader of `datasets`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import httpx
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq

from modelforge.data.sources.locate import fetched_path
from modelforge.errors import DataError, NotFoundError, Problem, RunError
from modelforge.paths import Home

BATCH = 1000
LIMIT_S = 10.0
Progress = Callable[..., None]


@dataclass(frozen=True)
class Wish:
    """What to fetch: the name on the Hub, its configuration and its part, perhaps with a slice."""

    name: str
    subset: str | None
    split: str


def fetch(wish: Wish, home: Home, progress: Progress) -> dict[str, Any]:
    """Fetch a data set into the home and return its path, rows and columns.

    Raises in words when it is missing, gated, out of reach, or has no such part.
    """
    target = fetched_path(home, wish.name, wish.subset, wish.split)
    progress(text=f"Asking the Hub for {wish.name}")
    _ask_once(wish)
    try:
        rows = _loaded(wish)
        written = _write(rows, target, progress)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise in_words(wish, error) from error
    return {
        "path": str(target),
        "rows": written,
        "columns": list(rows.column_names or []),
        "bytes": target.stat().st_size,
    }


def _ask_once(wish: Wish) -> None:
    """Raise in words when the Hub cannot be reached; the loader would try for half a minute."""
    if Path(wish.name).exists():
        return
    try:
        huggingface_hub.HfApi().dataset_info(wish.name, timeout=LIMIT_S)
    except (httpx.ConnectError, httpx.TimeoutException) as error:
        raise _out_of_reach(wish) from error
    except (httpx.HTTPError, OSError, ValueError):
        return  # the Hub is there, and the loader finds better words for what it has against it


def _loaded(wish: Wish) -> Any:
    # A whole part is read as it comes; a slice needs all of it first.
    streaming = "[" not in wish.split and "+" not in wish.split
    return datasets.load_dataset(wish.name, wish.subset, split=wish.split, streaming=streaming)


def _write(rows: Any, target: Path, progress: Progress) -> int:
    """Write the rows beside the target and put them in place in one step; return how many."""
    total = _total(rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    written = 0
    try:
        with contextlib.ExitStack() as stack:
            writer: Any = None
            for table in _tables(rows):
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(staged, table.schema))
                writer.write_table(table.cast(writer.schema))
                written += table.num_rows
                progress(text="Fetching rows", done=written, total=total)
        if not written:
            problem = Problem("dataset", "This part has no rows.", "Choose another split.")
            raise DataError(problem)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
    return written


def _tables(rows: Any) -> Iterator[pa.Table]:
    for batch in rows.with_format("arrow").iter(batch_size=BATCH):
        yield pa.table(batch)


def _total(rows: Any) -> int | None:
    with contextlib.suppress(TypeError):
        return len(rows)
    splits = getattr(rows.info, "splits", None) or {}
    known = splits.get(str(rows.split)) if rows.split is not None else None
    return getattr(known, "num_examples", None) or None


def in_words(wish: Wish, error: Exception) -> Exception:
    """Return what an error of the loader means; what nobody foresaw comes back as it is."""
    text = " ".join(str(part) for part in _chain(error))
    first = str(error).strip().split("\n", 1)[0]
    low = text.lower()
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
        return RunError(Problem("home", f"It cannot be written: {first}.", "Free some space."))
    kinds = {type(part).__name__ for part in _chain(error)}
    if "is a gated dataset" in low or "GatedRepoError" in kinds:
        what = f"{wish.name} is gated: its authors must let you in first."
        remedy = "Ask for access on its Hub page, then log in with `hf auth login`."
        return NotFoundError(Problem("dataset", what, remedy))
    if _is_offline(low):
        return _out_of_reach(wish)
    if "config name is missing" in low or "builderconfig" in low:
        remedy = f"Choose one as the subset.{_listed(text)}"
        said = f"has no configuration {wish.subset}" if wish.subset else "has several parts"
        return NotFoundError(Problem("subset", f"{wish.name} {said}.", remedy))
    if "unknown split" in low or "bad split" in low:
        what = f"{wish.name} has no part {wish.split}."
        return NotFoundError(Problem("split", what, f"Choose another split.{_listed(text)}"))
    if "script" in low:
        what = f"{wish.name} brings its own code to load it, which is never run here."
        return NotFoundError(Problem("dataset", what, "Choose a data set kept as files."))
    if isinstance(error, FileNotFoundError | datasets.exceptions.DatasetsError):
        what = f"There is no data set {wish.name} on the Hub, or it is private or holds no data."
        remedy = "Check the name, OWNER/NAME; for a private one log in with `hf auth login`."
        return NotFoundError(Problem("dataset", what, remedy))
    return error


def _out_of_reach(wish: Wish) -> NotFoundError:
    what = f"The Hub cannot be reached, so {wish.name} cannot be fetched."
    remedy = "Check the network and the HF_HUB_OFFLINE switch, or give the data as a file."
    return NotFoundError(Problem("dataset", what, remedy))


def _is_offline(low: str) -> bool:
    signs = (
        "offline", "couldn't reach", "connection", "name resolution", "max retries",
        "timed out", "network is unreachable", "proxy",
    )  # fmt: skip
    return any(sign in low for sign in signs)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _listed(text: str) -> str:
    """Return the names that the loader offers, which it writes in brackets."""
    begin, end = text.find("["), text.find("]")
    if not 0 <= begin < end <= begin + 2000:
        return ""
    names = [name.strip(" '\"") for name in text[begin + 1 : end].split(",")]
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    return f" There are {shown}."
