"""The card of the data as it stands still: ways in, and the four tabs about what is inside."""

from __future__ import annotations

from modelforge.data.sources.uploads import UPLOAD_BYTES
from ui.html.components import free, tabs
from ui.html.markup import Safe, el, join

TAKEN = ".json,.jsonl,.ndjson,.csv,.tsv,.parquet,.arrow,.feather,.txt,.md,.gz,.zst"
FORMATS = "JSON, JSONL, CSV, TSV, Parquet, Arrow, TXT or Markdown, also as .gz or .zst"


def body() -> Safe:
    """Return the ways in, and the tabs, which appear with the data."""
    return join(
        [
            el("div", data_part="samples"),
            el("div.two.tight", _drop(), el("div", _path(), _hub())),
            el("div", data_part="sources"),
            el("div#data-inside", _inside(), hidden=True),
        ]
    )


def _drop() -> Safe:
    return el(
        "div",
        el(
            "label.drop",
            el(
                "input",
                type="file",
                id="file",
                accept=TAKEN,
                multiple=True,
                data_most=str(UPLOAD_BYTES),
            ),
            el("span", el("b", "Drop files here"), " or choose them"),
            el("small", FORMATS),
            el("span.busy", data_part="upload", aria_live="polite"),
            id="drop",
        ),
        el(
            "p.fine.under",
            "No file yet? ",
            el("a#to-build", "Write examples", href="/build"),
            " or ",
            el("a", "make pairs", href="/build?make=pairs"),
            ".",
        ),
    )


def _path() -> Safe:
    return free(
        "dataset",
        "Or a path on this computer",
        "A file, or a folder of files.",
        "/home/me/data.jsonl",
    )


def _hub() -> Safe:
    return el(
        "details.hub",
        el("summary", "Or from the Hugging Face Hub"),
        el(
            "div.hubs",
            _field("hub-name", "Data set", "owner/name"),
            _field("hub-subset", "Configuration", "if it has several"),
            _field("hub-split", "Split", "train[:500]"),
            el("button.btn.s", "Fetch", type="button", data_do="fetch-hub", id="hub-fetch"),
        ),
        el("p.fine", data_part="hub", role="status"),
    )


def _field(key: str, label: str, placeholder: str) -> Safe:
    return el(
        "div.f",
        el("div.lab", el("label", label, for_=key)),
        el(
            "div.in",
            el(
                f"input#{key}",
                type="text",
                placeholder=placeholder,
                autocomplete="off",
                spellcheck="false",
                data_aside=True,
            ),
        ),
    )


def _inside() -> Safe:
    doctor = join(["Doctor ", el("span", data_part="doctor-count")])
    titles = (
        ("rows", "Rows"),
        ("sees", "What the model sees"),
        ("doctor", doctor),
        ("lengths", "Lengths"),
    )
    sees = join([el("div", data_part="sees"), el("div.after", data_part="doctor-brief")])
    return join(
        [
            tabs("data", titles),
            _panel(
                "rows",
                join([el("div", data_part="data"), el("div#map", data_part="map", hidden=True)]),
                shown=True,
            ),
            _panel("sees", sees),
            _panel("doctor", el("div", data_part="doctor")),
            _panel("lengths", el("div", data_part="lengths")),
        ]
    )


def _panel(key: str, inside: Safe, *, shown: bool = False) -> Safe:
    return el(
        f"div#data-{key}",
        inside,
        role="tabpanel",
        aria_labelledby=f"tab-data-{key}",
        hidden=not shown,
    )
