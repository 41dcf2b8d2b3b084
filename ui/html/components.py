"""What more than one card has: a text field of its own, tabs, tiles to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from ui.html.markup import Safe, el


def free(name: str, label: str, help_text: str, placeholder: str = "") -> Safe:
    """Return a text field that answers `name` where no tile does."""
    key = f"free-{name}"
    return el(
        "div.f.free",
        el("div.lab", el("label", label, for_=key, title=name)),
        el(
            "div.in",
            el(
                "input",
                type="text",
                id=key,
                data_free=name,
                placeholder=placeholder,
                autocomplete="off",
                spellcheck="false",
                aria_describedby=f"{key}-help {key}-wrong",
            ),
        ),
        el("small.hint", help_text, id=f"{key}-help"),
        el("p.wrong", id=f"{key}-wrong", data_wrong=name, aria_live="polite"),
        data_f=name,
    )


def tabs(group: str, titles: Sequence[tuple[str, object]], *shared: str) -> Safe:
    """Return a row of tabs; each shows the panel `GROUP-KEY`, those in `shared` the first's."""
    return el(
        "div.tabs",
        [
            el(
                "button",
                title,
                type="button",
                role="tab",
                id=f"tab-{group}-{key}",
                data_do="tab",
                aria_selected="true" if place == 0 else "false",
                aria_controls=f"{group}-{titles[0][0] if key in shared else key}",
                tabindex="0" if place == 0 else "-1",
            )
            for place, (key, title) in enumerate(titles)
        ],
        role="tablist",
    )


def choices(legend: str, tiles: Sequence[Safe]) -> Safe:
    """Return tiles of which one is chosen."""
    return el("fieldset.set", el("legend", legend), el("div.choices", tiles))


def tile(
    name: str,
    value: str,
    title: str,
    *lines: str,
    chip: object = None,
    disabled: bool = False,
    strategies: Sequence[str] = (),
    class_: str | None = None,
) -> Safe:
    """Return one choice: a radio button that looks like a card. It may want certain strategies."""
    key = f"t-{name}-{value}".replace(" ", "-")
    return el(
        "label.choice",
        el(
            "input",
            type="radio",
            name=name,
            value=value,
            id=key,
            disabled=disabled,
            data_strategies=" ".join(strategies) or None,
        ),
        el("span.title", title, _chip(chip)),
        [el("small", line) for line in lines if line],
        class_="off" if disabled else class_,
    )


def _chip(told: object) -> object:
    """Return a word on its own ground; what is drawn already stays as it is."""
    return told if isinstance(told, Safe) or not told else el("span.chip", told)
