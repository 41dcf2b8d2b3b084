"""The card of the model: what is offered for the task, what the Hub has, and the one chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelforge.models.hub import SearchResult
from modelforge.preflight.suggest.catalog_fit import FitEstimate
from modelforge.services.preflight import Checked
from ui.html import format as words
from ui.html.components import choices, free, tile
from ui.html.markup import Safe, el, join
from ui.pages.train import fit_panel, plan_panel

if TYPE_CHECKING:
    pass

Offer = tuple[Mapping[str, Any], FitEstimate]


def body() -> Safe:
    """Return the card's inside, empty of models."""
    own = free(
        "model_name",
        "Another model",
        "A Hub id, or a folder with config.json and safetensors on this computer.",
        "Qwen/Qwen3-0.6B",
    )
    models = el("div.models", el("div", data_part="models"), fit_panel.toggle())
    return join([models, own, _search(), el("div", data_part="model")])


def offered(offers: Sequence[Offer]) -> Safe:
    """Return the models of the catalogue, with what each would need here."""
    return choices("Recommended for this machine and task", [_offer(*offer) for offer in offers])


def found(
    listed: Sequence[SearchResult],
    query: str,
    needs: Callable[[float | None], FitEstimate] | None = None,
) -> Safe:
    """Return what the Hub has found; `needs` says what a model of so many billions needs."""
    if not listed:
        return el("p.help", f"The Hub has no model for “{query}” that this task could use.")
    return choices(
        "On the Hub, the most used first",
        [
            tile(
                "model_name",
                one.name,
                words.model(one.name),
                one.name.partition("/")[0],
                f"{size(one.parameters)} · {one.licence or 'licence not said'}"
                f"{' · ask first' * one.gated}",
                f"{one.downloads:,} downloads a month" if one.downloads else "",
                chip=fit_panel.badge(needs(one.parameters), "about ") if needs else None,
            )
            for one in listed
        ],
    )


def chosen(name: str, offers: Sequence[Offer], checked: Checked) -> dict[str, Safe]:
    """Return the parts that tell of the chosen model."""
    return {"sum-model": summary(name, checked), "model": notes(offers, checked)}


def summary(name: str, checked: Checked) -> Safe:
    """Return the card's summary line: the model, its size, and whether it fits."""
    if not name:
        return join(["not chosen yet"])
    facts, parts = checked.facts, [words.model(name)]
    if facts is not None and facts.weights_gib:
        parts.append(f" · {words.gib(facts.weights_gib)}")
    if checked.report is not None and checked.report.memory:
        parts += [" · ", plan_panel.fits(checked.report)]
    return join(parts)


def notes(offers: Sequence[Offer], checked: Checked) -> Safe:
    """Return what is known of the chosen model."""
    facts = checked.facts
    if facts is None:
        return Safe("")
    listed = next((model for model, _ in offers if model["name"] == facts.name), {})
    licence = facts.licence or listed.get("licence", "")
    told = [
        f"{words.number(facts.parameters)} weights" if facts.parameters else "",
        f"{facts.layers} layers" if facts.layers else "",
        f"reads up to {words.number(facts.context)} tokens" if facts.context else "",
        _template(facts.kind, has=facts.has_chat_template),
        f"licence {licence}" if licence else "licence not said",
        "lies on this computer" if facts.local else "comes from the Hub at the start",
    ]
    return el(
        "p.help", el("b", facts.architecture or facts.name), " · ", " · ".join(filter(None, told))
    )


def size(billions: float | None) -> str:
    """Return how large a model is: 135 million weights, 4.0 billion weights."""
    if not billions:
        return "size unknown"
    if billions < 1:
        return f"{billions * 1000:.0f} million weights"
    return f"{billions:.1f} billion weights"


def _offer(model: Mapping[str, Any], need: FitEstimate) -> Safe:
    return tile(
        "model_name",
        model["name"],
        model["title"],
        f"{size(model['parameters'])} · {model['licence']}{' · ask first' * model['gated']}",
        f"{model['note']}",
        "Can be made to fit." if need.fits is False and need.can_fit else "",
        chip=fit_panel.badge(need),
        class_="hopeless" if fit_panel.is_hopeless(need) else None,
    )


def _template(kind: str, *, has: bool) -> str:
    if kind != "decoder":
        return {"encoder": "reads, and finds places in a text"}.get(kind, "turns text into text")
    return "has its own chat template" if has else "no chat template: ChatML is used"


def _search() -> Safe:
    return el(
        "details.hub",
        el("summary", "Search the Hugging Face Hub"),
        el(
            "div.hubs.one",
            el(
                "div.f",
                el("div.lab", el("label", "Words of its name", for_="model-query")),
                el("div.in", el("input#model-query", type="text", placeholder="qwen3 instruct",
                    autocomplete="off", spellcheck="false", maxlength=100)),
            ),
            el("button.btn", "Search", type="button", data_do="model-search"),
        ),
        el("div", data_part="found", aria_live="polite"),
    )  # fmt: skip
