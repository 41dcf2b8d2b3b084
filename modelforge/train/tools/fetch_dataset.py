"""Download a dataset from the Hub to a Parquet file in the home folder."""

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
# Parts of error messages without a network.
_OFFLINE = (
    "offline", "couldn't reach", "connection", "name resolution", "max retries",
    "timed out", "network is unreachable", "proxy",
)  # fmt: skip
Progress = Callable[..., None]


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the Hub: name, configuration and split; the split may have a slice."""

    name: str
    subset: str | None
    split: str


def fetch(source: HubDataset, home: Home, progress: Progress) -> dict[str, Any]:
    """Download a dataset and return its path, rows, columns and bytes.

    Raises:
        NotFoundError: The dataset is missing, gated or unreachable, or has no such split.
    """
    target = fetched_path(home, source.name, source.subset, source.split)
    progress(text=f"Looking up {source.name}")
    _check_reachable(source)
    try:
        # A whole split is streamed; a slice needs all of it first.
        streaming = "[" not in source.split and "+" not in source.split
        rows = datasets.load_dataset(
            source.name, source.subset, split=source.split, streaming=streaming
        )
        written = _write(rows, target, progress)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise explain_hub_error(source, error) from error
    return {
        "path": str(target),
        "rows": written,
        "columns": list(rows.column_names or []),
        "bytes": target.stat().st_size,
    }


def _check_reachable(source: HubDataset) -> None:
    """Raise NotFoundError when the Hub cannot be reached; the loader would try for 30 seconds."""
    if Path(source.name).exists():
        return
    try:
        huggingface_hub.HfApi().dataset_info(source.name, timeout=LIMIT_S)
    except (httpx.ConnectError, httpx.TimeoutException) as error:
        raise _unreachable(source) from error
    except (httpx.HTTPError, OSError, ValueError):
        return  # the Hub is reachable; the loader reports the problem


def _write(rows: Any, target: Path, progress: Progress) -> int:
    """Write the rows to the target atomically and return their number."""
    total = _total(rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    written = 0
    try:
        with contextlib.ExitStack() as stack:
            writer: Any = None
            for batch in rows.with_format("arrow").iter(batch_size=BATCH):
                table = pa.table(batch)
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(staged, table.schema))
                writer.write_table(table.cast(writer.schema))
                written += table.num_rows
                progress(text="Downloading rows", done=written, total=total)
        if not written:
            problem = Problem("dataset", "This split has no rows.", "Choose another split.")
            raise DataError(problem)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
    return written


def _total(rows: Any) -> int | None:
    with contextlib.suppress(TypeError):
        return len(rows)
    splits = getattr(rows.info, "splits", None) or {}
    known = splits.get(str(rows.split)) if rows.split is not None else None
    return getattr(known, "num_examples", None) or None


def explain_hub_error(source: HubDataset, error: Exception) -> Exception:
    """Return the error that explains an error of the loader; unknown errors are returned as is."""
    text = " ".join(str(part) for part in _chain(error))
    first = str(error).strip().split("\n", 1)[0]
    low = text.lower()
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
        return RunError(Problem("home", f"It cannot be written: {first}.", "Free some space."))
    kinds = {type(part).__name__ for part in _chain(error)}
    if "is a gated dataset" in low or "GatedRepoError" in kinds:
        what = f"{source.name} is gated: its authors have to grant you access."
        remedy = "Request access on its Hub page, then log in with `hf auth login`."
        return NotFoundError(Problem("dataset", what, remedy))
    if any(phrase in low for phrase in _OFFLINE):
        return _unreachable(source)
    if "config name is missing" in low or "builderconfig" in low:
        remedy = f"Choose one as the subset.{_listed(text)}"
        problem = (
            f"has no configuration {source.subset}"
            if source.subset
            else "has several configurations"
        )
        return NotFoundError(Problem("subset", f"{source.name} {problem}.", remedy))
    if "unknown split" in low or "bad split" in low:
        what = f"{source.name} has no split {source.split}."
        return NotFoundError(Problem("split", what, f"Choose another split.{_listed(text)}"))
    if "script" in low:
        what = f"{source.name} is loaded by its own code, which is never run here."
        return NotFoundError(Problem("dataset", what, "Choose a dataset that is stored as files."))
    if isinstance(error, FileNotFoundError | datasets.exceptions.DatasetsError):
        what = f"There is no dataset {source.name} on the Hub, or it is private or empty."
        remedy = "Check the name, OWNER/NAME; for a private one log in with `hf auth login`."
        return NotFoundError(Problem("dataset", what, remedy))
    return error


def _unreachable(source: HubDataset) -> NotFoundError:
    what = f"The Hub cannot be reached, so {source.name} cannot be downloaded."
    remedy = "Check the network and the HF_HUB_OFFLINE switch, or use the data as a file."
    return NotFoundError(Problem("dataset", what, remedy))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _listed(text: str) -> str:
    """Return the names that the loader lists in brackets, as a sentence."""
    begin, end = text.find("["), text.find("]")
    if not 0 <= begin < end <= begin + 2000:
        return ""
    names = [name.strip(" '\"") for name in text[begin + 1 : end].split(",")]
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    return f" Available: {shown}."
