"""Download a model of the Hub to its cache: `python -m modelforge.models.hub_download NAME`.

A process of its own can be ended at any time; the next download keeps the files that are complete.
A broken connection continues at the byte where it broke. The process prints JSON lines: `done` and
`total` bytes, then `finished` or `problem`, and ends when its stdin ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from tqdm import tqdm

from modelforge.errors import ForgeError
from modelforge.models.hub import HUB_LIMIT_S, HubModel, fetch_hub_model, hub_errors
from modelforge.models.safetensors_index import weight_files
from modelforge.stdin import when_stdin_ends
from modelforge.units import GIB

if TYPE_CHECKING:
    _Tqdm = tqdm[Any]
else:
    _Tqdm = tqdm  # generic in its stubs only

REPORT_INTERVAL_S = 0.2
CHUNK_BYTES = 256 * 1024
# Disk space that a download leaves free.
RESERVE_BYTES = GIB
# What a tokenizer or a config of a model consists of, beside the weights.
_SIDE_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken")


def files_to_download(model: HubModel) -> dict[str, int]:
    """Return the files that training needs, each with its size; weights in safetensors only."""
    weights = set(weight_files(model.folder, model.files))
    return {
        name: size
        for name, size in model.files.items()
        if name in weights or ("/" not in name and name.endswith(_SIDE_SUFFIXES))
    }


def missing_bytes(model: HubModel) -> int:
    """Return how many bytes a download would fetch; unfinished files count as a whole."""
    sizes = files_to_download(model).items()
    return sum(size for name, size in sizes if not (model.folder / name).exists())


def free_bytes() -> int:
    """Return the free disk space of the Hub's cache."""
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def remove_partial_files(name: str) -> None:
    """Delete what a download of a model that was killed has left; the next one cannot use it."""
    folder = repo_folder_name(repo_id=name, repo_type="model")
    for file in (Path(constants.HF_HUB_CACHE) / folder / "blobs").glob("*.incomplete"):
        file.unlink(missing_ok=True)


@dataclass
class _Reporter:
    """Prints how many bytes of the download are on the disk, a few times a second."""

    total: int
    finished: int = 0
    printed: float = float("-inf")

    def report(self, of_file: int, *, now: bool = False) -> None:
        if now or time.monotonic() - self.printed > REPORT_INTERVAL_S:
            self.printed = time.monotonic()
            _print({"done": self.finished + of_file, "total": self.total})


def download(name: str) -> None:
    """Download what is missing of a model. Raises ForgeError."""
    model = fetch_hub_model(name)
    files = files_to_download(model)
    reporter = _Reporter(sum(files.values()))

    class Bar(_Tqdm):
        """The progress bar of one file, which reports instead of drawing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            # Bytes received are counted by another bar than bytes written.
            self.is_counted = not str(options.pop("name", "")).endswith(".transfer")
            super().__init__(*args, **options | {"disable": True})
            self.bytes = options.get("initial", 0)
            self.update(0)

        def update(self, n: float | None = 1) -> bool | None:
            self.bytes += n or 0
            if self.is_counted:
                reporter.report(int(self.bytes))
            return None

    with hub_errors(name):
        for file, size in files.items():
            huggingface_hub.hf_hub_download(
                name, file, revision=model.revision, etag_timeout=HUB_LIMIT_S, tqdm_class=Bar
            )
            reporter.finished += size
            reporter.report(0, now=True)
        # Makes this revision the one that is found by the model's name.
        huggingface_hub.hf_hub_download(name, "config.json", etag_timeout=HUB_LIMIT_S)


def main(name: str) -> None:
    """Download a model, and print the progress and the end."""
    # The client writes and reports a file in pieces of this size.
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    when_stdin_ends(_interrupt)
    try:
        download(name)
    except ForgeError as error:
        _print({"problem": error.problems[0].as_dict()})
    except KeyboardInterrupt:  # cancelled
        return
    else:
        _print({"finished": True})


def _interrupt() -> None:
    if os.name == "posix":
        # The client of the Hub deletes the file that it is writing.
        os.kill(os.getpid(), signal.SIGINT)
    else:
        os._exit(1)


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
