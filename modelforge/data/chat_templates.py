"""The chat template that was asked for: a name we know, or a file."""

from __future__ import annotations

from pathlib import Path

from modelforge.errors import DataError, Problem
from modelforge.paths import resource_folder

WHERE = "model.chat_template"
SUFFIX = ".jinja"
LARGEST = 2**20


def names() -> list[str]:
    """Return the names of the templates that come along."""
    return sorted(path.stem for path in _folder().glob(f"*{SUFFIX}"))


def template_text(said: str | None) -> str | None:
    """Return the source of a template by name or path, or None for the model's own.

    Raises DataError for a file that cannot be read. The source is only ever run in the sandbox of
    transformers.
    """
    if not said:
        return None
    if said in names():
        return (_folder() / f"{said}{SUFFIX}").read_text(encoding="utf-8")
    path = Path(said).expanduser()
    if path.suffix != SUFFIX:
        raise _trouble(f"{said[:80]} is no template.", f"Choose {', '.join(names())}, or a file.")
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= LARGEST else ""
    except FileNotFoundError as error:
        raise _trouble(f"There is no file {path}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise _trouble(f"{path.name} is not UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _trouble(f"{path.name} cannot be read: {reason}.", "Check its rights.") from error
    if size > LARGEST:
        raise _trouble(f"{path.name} is larger than 1 MiB.", "That is no chat template.")
    if not text.strip():
        raise _trouble(f"{path.name} is empty.", "Give a template, or leave the setting empty.")
    return text


def refused(error: Exception) -> DataError:
    """Return what a template that cannot even write a question and its answer means."""
    line = getattr(error, "lineno", None)
    at = f" at line {line}" if line else ""
    reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    what = f"The template cannot write a question and its answer{at}: {reason}."
    return _trouble(what, f"Mend it, or choose {', '.join(names())}.")


def _folder() -> Path:
    return resource_folder("assets") / "templates"


def _trouble(what: str, remedy: str) -> DataError:
    return DataError(Problem(WHERE, what, remedy))
