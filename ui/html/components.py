"""Components of several pages: cards, rows, chips, progress bars, tabs, tiles and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelforge.hardware.machine import Machine
from ui.html import format as fmt
from ui.html.markup import Markup, el, join, with_code


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


def chip(text: object, tone: str = "") -> Markup:
    """Return a short label; the tone is `good`, `warn`, `bad`, `plain` or empty."""
    return el("span.chip", text, class_=tone or None)


def state_chip(state: str) -> Markup:
    """Return the state of a run."""
    return chip(*fmt.STATES[state])


def finding(
    label: object, tone: str, text: object, *details: object, button: Markup | None = None
) -> Markup:
    """Return a finding: its level or count, its text with details below it, and a button."""
    lines = [el("small", with_code(detail)) for detail in details if detail]
    return el("div.find", chip(label, tone), el("div", with_code(text), lines), button)


def progress(label: str, share: float | None) -> Markup:
    """Return a progress bar for a share from 0 to 1; None shows that work is in progress."""
    if share is None:
        return el("div.prog.vague", el("i"), role="progressbar", aria_label=label)
    share = min(max(share, 0.0), 1.0)
    return el(
        "div.prog",
        el("i", style=f"width:{100 * share:.1f}%"),
        role="progressbar",
        aria_label=label,
        aria_valuenow=round(100 * share),
        aria_valuemin=0,
        aria_valuemax=100,
    )


def placeholder(key: str) -> Markup:
    """Return the element in which the browser draws the chart with this key."""
    return el(
        "div.chart", el("p.no-chart", "The curve starts with the first step."), data_chart=key
    )


def chart_card(key: str, title: str, note: str, *, is_open: bool = False) -> Markup:
    """Return a card with the chart of this key; a button shows the note about what it means."""
    more = f"chart-{key}-more"
    button = el(
        "button.q",
        "?",
        type="button",
        data_action="fold",
        aria_expanded="true" if is_open else "false",
        aria_controls=more,
        aria_label=f"More about {title}",
    )
    return el(
        "section.card",
        el("div.head", el("h2.name", title), button),
        el("div.body", el("p.more", note, id=more, hidden=not is_open), placeholder(key)),
        id=f"card-{key}",
    )


def field(key: str, label: str, control: Markup, hint: str = "") -> Markup:
    """Return a labelled control."""
    return el(
        "div.f",
        el("div.lab", el("label", label, for_=key)),
        control,
        el("small.hint", hint) if hint else None,
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
    class_: str | None = None,
    **attributes: str | None,
) -> Markup:
    """Return one choice of a setting as a card; the attributes are those of its radio button."""
    return el(
        "label.choice",
        el(
            "input",
            type="radio",
            name=name,
            value=value,
            id=f"t-{name}-{value}".replace(" ", "-"),
            disabled=disabled,
            **attributes,
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
    return join([f"{fmt.cores(machine.cores)} · {memory} RAM free"])
