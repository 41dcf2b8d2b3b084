"""The text card of a training from nothing: the sources, how much is wanted, and text to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from modelforge.config.plan.pretraining import MAX_EPOCHS, PretrainingPlan, token_characters
from modelforge.data.sources.load import LoadedSource
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.forge import Forge
from modelforge.services.preflight import PreflightResult
from ui.contract import DatasetReply
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.train.new_model.cards import count

PYTHON_TEXT = "python-documentation.txt"
# Text to train on for those who have none: name, configuration and split on the Hub, its size in
# bytes, and what it is.
HUB_TEXTS = (
    ("roneneldan/TinyStories", "", "validation", 19e6, "Short stories in the words of a child."),
    ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", 11e6, "Good articles of Wikipedia."),
    ("Salesforce/wikitext", "wikitext-103-raw-v1", "train", 540e6, "The same, fifty times more."),
    ("roneneldan/TinyStories", "", "train", 1.9e9, "All of the stories."),
)  # fmt: skip


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the function that takes the documentation of Python as text."""

    def use_python_text(_request: Any) -> DatasetReply:
        path = forge.datasets.upload(PYTHON_TEXT, python_text(), MAX_UPLOAD_BYTES)
        return DatasetReply(dataset=path.name)

    return [use_python_text]


def python_text() -> Iterator[bytes]:
    """Yield the help pages of the running Python, 0.5 MB of English; nothing without them."""
    try:
        from pydoc_data.topics import topics  # noqa: PLC0415 - 0.7 MB, and not in every Python
    except ImportError:
        return
    for name in sorted(topics):
        yield f"{topics[name].strip()}\n\n".encode()


def offers() -> list[tuple[str, str, str, str, str]]:
    """Return the texts of the Hub: name, configuration, split, size and what it is."""
    return [
        (name, part, split, fmt.size(size), what) for name, part, split, size, what in HUB_TEXTS
    ]


def parts(
    checked: PreflightResult, planned: PretrainingPlan | None, *, has_text: bool
) -> dict[str, Markup]:
    """Return the summary, the sources and the text that is wanted.

    `checked` is the check of the form, or of it with another text where it has none.
    """
    found = {"text-wanted": join([wanted_text(planned, checked)])}
    if not has_text:
        return {**found, "sources": EMPTY}
    if planned is not None and checked.summary is not None:
        found["sum-data"] = join([summary_text(planned, checked.summary.name)])
    if checked.data is not None and checked.data.sources:
        found["sources"] = source_table(checked.data.sources, planned)
    return found


def summary_text(planned: PretrainingPlan, name: str) -> str:
    """Return whether the text has enough tokens."""
    if not planned.text_tokens:
        return name
    has, needed = count(planned.text_tokens), count(planned.tokens)
    if planned.text_tokens <= planned.shape.context:
        return f"too short: about {has} tokens"
    if planned.tokens <= planned.text_tokens:
        return f"enough: about {has} tokens, {needed} needed"
    return f"about {has} tokens, {needed} needed: read {times(planned)} times"


def times(planned: PretrainingPlan) -> str:
    """Return how often the text is read: 3.4, 151."""
    passes = planned.epochs or 0.0
    return fmt.number(passes, 1 if passes < 10 else 0)


def wanted_text(planned: PretrainingPlan | None, checked: PreflightResult) -> str:
    """Return how much text the training reads."""
    if planned is None or checked.resolved is None:
        return ""
    size = planned.tokens * token_characters(planned.shape.vocab_size)
    depth = checked.resolved.config.pretraining.depth
    less = fmt.size(size / MAX_EPOCHS)
    return (
        f"At depth {depth} the training reads {count(planned.tokens)} tokens: about "
        f"{fmt.size(size)} of text, or {less} that is read {MAX_EPOCHS:g} times. With less it "
        "begins to recite instead of learn."
    )


def source_table(sources: Sequence[LoadedSource], planned: PretrainingPlan | None) -> Markup:
    """Return the sources with size, share, and the tokens that are trained on."""
    chars = [source.summary.mean_chars * source.rows for source in sources]
    total = sum(chars) or 1.0
    tokens = planned.text_tokens if planned else None
    rows = [
        (
            fmt.dataset(source.source.path),
            _kind(source),
            fmt.size(source.summary.size_bytes),
            count(tokens * amount / total) if tokens else fmt.UNKNOWN,
            fmt.percent(100 * amount / total),
        )
        for source, amount in zip(sources, chars, strict=True)
    ]
    return render("pretrain", "sources", rows)


def _kind(source: LoadedSource) -> str:
    """Return where a source comes from: folder · 214 files, txt and md."""
    path, files = source.source.path, source.files
    kinds = sorted({file.suffix.lstrip(".").lower() for file in files} - {""})
    place = "Hub" if path.startswith("hub:") else "sample" if path.startswith("sample:") else ""
    if len(files) > 1:
        place = " · ".join(filter(None, [place or "folder", f"{len(files):,} files"]))
    text = " and ".join(kinds[:3])
    documents = fmt.plural(source.rows, "document")
    return " · ".join(filter(None, [place, text, documents]))
