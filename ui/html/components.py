"""Components of several pages: cards, rows, chips, progress bars, tabs, tiles and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelforge.hardware.machine import Machine
from ui.html import format as fmt
from ui.html.markup import Markup, el, join


def card(title: str, body: object, summary: object = None) -> Markup:
    """Return a card with a heading and a summary beside it."""
    return el(
        "section.card",
        el("div.head", el("h2.name", title), el("div.sum", summary)),
        el("div.body", body),
    )


def empty_state(title: str, text: object, *actions: Markup) -> Markup:
    """Return the content of a card that has nothing to show yet."""
    return el("div.empty-state", el("b", title), el("p", text), actions)


def row(name: object, value: object) -> Markup:
    """Return a line with a name and a number."""
    return el("div.row", el("span", name), el("span.num", value))


def facts(items: Iterable[tuple[str, object]], class_: str | None = None) -> Markup:
    """Return a list of names with their values."""
    listed = [el("div", el("dt", name), el("dd", value)) for name, value in items]
    return el("dl.facts", listed, class_=class_)


def table(
    heads: Sequence[object], rows: Sequence[Markup], label: str, class_: str | None = None
) -> Markup:
    """Return a table that scrolls, with a name for screen readers."""
    return el(
        "div.table",
        el(
            "table",
            el("thead", el("tr", [el("th", head, scope="col") for head in heads])),
            el("tbody", rows),
        ),
        class_=class_,
        tabindex="0",
        role="region",
        aria_label=label,
    )


def chip(text: object, tone: str = "") -> Markup:
    """Return a short label; the tone is `good`, `warn`, `bad`, `plain` or empty."""
    return el("span.chip", text, class_=tone or None)


def state_chip(state: str) -> Markup:
    """Return the state of a run."""
    return chip(*fmt.STATES[state])


def progress(label: str, share: float | None) -> Markup:
    """Return a progress bar for a share from 0 to 1; None shows that work is in progress."""
    if share is None:
        return el("div.prog.vague", el("i"), role="progressbar", aria_label=label)
    return el(
        "div.prog",
        el("i", style=f"width:{100 * share:.1f}%"),
        role="progressbar",
        aria_label=label,
        aria_valuenow=round(100 * share),
        aria_valuemin=0,
        aria_valuemax=100,
    )


def field(key: str, label: str, control: Markup, hint: str = "") -> Markup:
    """Return a labelled control."""
    return el(
        "div.f",
        el("div.lab", el("label", label, for_=key)),
        control,
        el("small.hint", hint) if hint else None,
    )


def select(key: str, *options: object) -> Markup:
    """Return a drop-down list."""
    return el("div.in.pick", el(f"select#{key}", options))


def text_setting(name: str, label: str, help_text: str, placeholder: str = "") -> Markup:
    """Return a text field for a setting that can also be chosen with a tile."""
    key = f"text-{name}"
    return el(
        "div.f.free",
        el("div.lab", el("label", label, for_=key, title=name)),
        el(
            "div.in",
            el(
                "input",
                type="text",
                id=key,
                data_text_for=name,
                placeholder=placeholder,
                autocomplete="off",
                spellcheck="false",
                aria_describedby=f"{key}-help {key}-error",
            ),
        ),
        el("small.hint", help_text, id=f"{key}-help"),
        el("p.wrong", id=f"{key}-error", data_error=name, aria_live="polite"),
        data_setting_box=name,
    )


def tabs(group: str, titles: Sequence[tuple[str, object]], *shared: str) -> Markup:
    """Return a row of tabs; each shows the panel `GROUP-KEY`, those in `shared` the first one's."""
    buttons = [
        el(
            "button",
            title,
            type="button",
            role="tab",
            id=f"tab-{group}-{key}",
            data_action="tab",
            aria_selected="true" if place == 0 else "false",
            aria_controls=f"{group}-{titles[0][0] if key in shared else key}",
            tabindex="0" if place == 0 else "-1",
        )
        for place, (key, title) in enumerate(titles)
    ]
    return el("div.tabs", buttons, role="tablist")


def tab_panel(group: str, key: str, content: object, *, is_shown: bool = False) -> Markup:
    """Return the panel of a tab."""
    return el(
        f"div#{group}-{key}",
        content,
        role="tabpanel",
        aria_labelledby=f"tab-{group}-{key}",
        hidden=not is_shown,
    )


def choices(legend: str, tiles: Sequence[Markup]) -> Markup:
    """Return tiles of which one is chosen."""
    return el("fieldset.set", el("legend", legend), el("div.choices", tiles))


def tile(
    name: str,
    value: str,
    title: str,
    *lines: str,
    badge: Markup | None = None,
    disabled: bool = False,
    strategies: Sequence[str] = (),
    class_: str | None = None,
) -> Markup:
    """Return one choice of a setting as a card; `strategies` are those that it supports."""
    return el(
        "label.choice",
        el(
            "input",
            type="radio",
            name=name,
            value=value,
            id=f"t-{name}-{value}".replace(" ", "-"),
            disabled=disabled,
            data_strategies=" ".join(strategies) or None,
        ),
        el("span.title", title, badge),
        [el("small", line) for line in lines if line],
        class_="off" if disabled else class_,
    )


def machine_brief(machine: Machine) -> Markup:
    """Return the free memory for the top bar."""
    if machine.gpus:
        gpu = machine.gpus[0]
        return join([f"{gpu.name} · {fmt.of_gib(gpu.free_gib, gpu.total_gib)} free"])
    memory = fmt.of_gib(machine.ram_free_gib, machine.ram_total_gib)
    return join([f"{machine.cores or '?'} cores · {memory} RAM free"])
