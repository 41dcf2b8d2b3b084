"""The model card: the catalog, search results of the Hub, the chosen model, its download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelforge.config.profiles import load_profiles
from modelforge.forge import Forge
from modelforge.preflight.suggest.catalog_fit import FitEstimate
from modelforge.services.downloads import Download
from modelforge.services.layers import RatedModel
from modelforge.services.preflight import PreflightResult
from modelforge.units import GIB
from ui.contract import PollReply, problem_text
from ui.html import format as fmt
from ui.html.components import choices, tile
from ui.html.gradio_page import ServerFunction, text
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.train import fit_panel

if TYPE_CHECKING:
    from modelforge.models.hub import SearchResult


def catalog(offers: Sequence[RatedModel]) -> Markup:
    """Return the models of the catalog, with the memory each would need."""
    tiles = [_offer(model, need) for model, need in offers]
    return choices("Recommended for this machine and task", tiles)


def _offer(model: Mapping[str, Any], need: FitEstimate) -> Markup:
    gated = " · access request" if model["gated"] else ""
    return tile(
        "model_name",
        model["name"],
        model["title"],
        f"{parameter_count(model['parameters'])} · {model['licence']}{gated}",
        f"{model['note']}",
        "Fits with other settings." if need.fits is False and need.can_fit else "",
        badge=fit_panel.model_badge(need),
        class_="hopeless" if need.is_hopeless else None,
    )


def hub_models(
    models: Sequence[SearchResult],
    query: str,
    needs: Callable[[float | None], FitEstimate] | None = None,
) -> Markup:
    """Return search results; `needs` returns the memory for a number of billion parameters."""
    if not models:
        return el("p.help", f"The Hub has no model for “{query}” that supports this task.")
    return choices(
        "On the Hub, most downloaded first",
        [
            tile(
                "model_name",
                model.name,
                fmt.model_name(model.name),
                model.name.partition("/")[0],
                f"{parameter_count(model.parameters)} · {model.licence or 'no licence stated'}"
                f"{' · access request' if model.gated else ''}",
                f"{model.downloads:,} downloads per month" if model.downloads else "",
                badge=fit_panel.model_badge(needs(model.parameters), "about ") if needs else None,
            )
            for model in models
        ],
    )


def summary(name: str, checked: PreflightResult) -> Markup:
    """Return the name of the model, its size, and whether it fits."""
    if not name:
        return join(["not chosen yet"])
    facts, parts = checked.facts, [fmt.model_name(name)]
    if facts is not None and facts.weights_gib:
        parts.append(f" · {fmt.size(GIB * facts.weights_gib)}")
    report = checked.report
    if report is not None and report.memory:
        parts += [" · ", fit_panel.fit_chip(report.memory_total_gib, report.memory_available_gib)]
    return join(parts)


def model_facts(checked: PreflightResult) -> Markup:
    """Return what is known about the chosen model."""
    facts = checked.facts
    if facts is None:
        return EMPTY
    licence = facts.licence or _catalog_licence(facts.name)
    texts = [
        f"{fmt.number(facts.parameters)} parameters" if facts.parameters else "",
        f"{facts.layers} layers" if facts.layers else "",
        f"context of {fmt.number(facts.context)} tokens" if facts.context else "",
        _kind(facts.kind, has_template=facts.has_chat_template),
        f"licence {licence}" if licence else "no licence stated",
        "stored on this computer" if facts.local else "downloaded from the Hub at the start",
    ]
    name = el("b", facts.architecture or facts.name)
    return el("p.help", name, " · ", " · ".join(filter(None, texts)))


def download(model: str, checked: PreflightResult | None, current: Download | None) -> Markup:
    """Return the download in progress, or an offer to download the chosen model with its size."""
    if current and (current.state == "running" or current.model == model):
        if current.state == "running":
            return render("models", "downloading", current, *_progress_texts(current))
        if current.state == "failed" and current.problem:
            return render("models", "download_failed", current, problem_text(current.problem))
    facts = checked.facts if checked else None
    if facts is None or not facts.download_bytes:
        return EMPTY
    from modelforge.models.hub_download import RESERVE_BYTES, free_bytes  # noqa: PLC0415 - httpx

    free = free_bytes()
    fits = facts.download_bytes + RESERVE_BYTES <= free
    return render("models", "download_offer", facts.name, facts.download_bytes, free, fits)


def _progress_texts(current: Download) -> tuple[str, float]:
    """Return the progress in words, and as a share from 0 to 1."""
    left = current.seconds_left
    texts = [f"{fmt.size(current.done)} of {fmt.size(current.total)}"]
    if left is not None:
        texts.append(f"{fmt.duration(left)} left")
    return " · ".join(texts), min(1.0, current.done / (current.total or 1))


def download_functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions that start, follow and cancel a download."""

    def download_model(request: Any) -> PollReply:
        forge.downloads.start(text(request, "name"))
        return show_download(request)

    def cancel_download(_request: Any) -> PollReply:
        forge.downloads.cancel()
        return PollReply(toast="The download is cancelled. Complete files are kept.")

    def show_download(_request: Any) -> PollReply:
        current = forge.downloads.current()
        if current is None or current.state != "running":
            return PollReply()
        part = download(current.model, None, current)
        return PollReply(poll=True, parts={"model-download": part})

    return [download_model, cancel_download, show_download]


def _catalog_licence(name: str) -> str:
    models = [model for profile in load_profiles().values() for model in profile.models]
    return next((str(model["licence"]) for model in models if model["name"] == name), "")


def _kind(kind: str, *, has_template: bool) -> str:
    if kind != "decoder":
        return {"encoder": "encoder, for extractive QA"}.get(kind, "sequence to sequence")
    return "own chat template" if has_template else "no chat template: ChatML is used"


def parameter_count(billions: float | None) -> str:
    """Return the size of a model: 135 million parameters, 4.0 billion parameters."""
    if not billions:
        return "size unknown"
    if billions < 1:
        return f"{billions * 1000:.0f} million parameters"
    return f"{billions:.1f} billion parameters"
