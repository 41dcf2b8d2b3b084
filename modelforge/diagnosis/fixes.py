"""Fixes for causes of failure: the settings to change, computed from those of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelforge.config.fields import specs_by_name

Settings = Mapping[str, Any]
Patch = dict[str, Any]

APPLY = "Apply and start again"
AGAIN = "Start again"
SHORTEST = 256
GENTLEST = 1e-6
# Muon has rates of its own for some weights, which hold in place of the learning rate.
_RATES = (
    "learning_rate",
    *(f"optimizer.{name}_lr" for name in ("matrix", "embedding", "unembedding", "scalar")),
)


def fix_action(name: str, config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the action of a fix for a run with these settings, or None.

    `config` has the settings, nested or by dotted names; `plan.` is the prefix of planned values.
    """
    if name in _LINKS:
        label, href = _LINKS[name]
        return {"label": label, "kind": "link", "href": href}
    if name == "resume":
        return {"label": "Resume from the checkpoint", "kind": "resume"}
    if config is None or not name:
        return None
    if name == "again":
        return {"label": AGAIN, "settings": {}}
    patch = _PATCHES[name](_flat(config))
    return {"label": APPLY, "settings": patch} if patch else None


def _less_memory(settings: Settings) -> Patch:
    """Halve the batch at the same effective batch size; then use slower options."""
    batch = settings["per_device_train_batch_size"]
    if batch > 1:
        smaller = batch // 2
        whole = batch * settings["gradient_accumulation_steps"]
        return {
            "per_device_train_batch_size": smaller,
            "gradient_accumulation_steps": -(-whole // smaller),
        }
    if not settings["gradient_checkpointing"]:
        return {"gradient_checkpointing": True}
    return _shorter(settings)


def _shorter(settings: Settings) -> Patch:
    length = settings["max_seq_length"]
    if not isinstance(length, int) or length <= 0:
        length = settings.get("plan.max_length") or 0
    return {"max_seq_length": max(SHORTEST, length // 2)} if length > SHORTEST else {}


def _gentler(settings: Settings) -> Patch:
    """Lower the learning rates, and replace fp16, which overflows first."""
    rates = {name: settings[name] or 0.0 for name in _RATES}
    patch: Patch = {
        name: float(f"{rate / 4:.2g}") for name, rate in rates.items() if rate > GENTLEST
    }
    if settings["fp16"] or "fp16" in (
        settings["hardware.precision"],
        settings.get("plan.precision"),
    ):
        patch |= _full_precision(settings)
    return patch


def _full_precision(settings: Settings) -> Patch:
    switched = {name: False for name in ("fp16", "bf16") if settings[name]}
    if not switched and settings["hardware.precision"] == "fp32":
        return {}
    return {**switched, "hardware.precision": "fp32"}


def _plain_weights(settings: Settings) -> Patch:
    patch: Patch = {}
    if settings["strategy"] == "qlora":
        patch["strategy"] = "sft"
    patch |= {name: False for name in ("use_4bit", "use_8bit") if settings[name]}
    if settings["quantization.scheme"] not in ("auto", "none"):
        patch["quantization.scheme"] = "none"
    return patch


def _to(name: str, value: Any) -> Callable[[Settings], Patch]:
    return lambda settings: {} if settings[name] == value else {name: value}


_LINKS = {
    "room": ("Free some disk space", "/machine"),
    "machine": ("Open the Machine page", "/machine"),
}
_PATCHES: dict[str, Callable[[Settings], Patch]] = {
    "less-memory": _less_memory,
    "shorter": _shorter,
    "gentler": _gentler,
    "full-precision": _full_precision,
    "plain-weights": _plain_weights,
    "plain-attention": _to("model.attn_implementation", "sdpa"),
    "eager-attention": _to("model.attn_implementation", "eager"),
    "huggingface": _to("provider", "huggingface"),
    "all-layers": _to("adapter.target_modules", "all-linear"),
    "own-template": _to("model.chat_template", "chatml"),
    "plain-optimizer": _to("optim", "adamw_torch"),
    "default-start": _to("adapter.init", "default"),
}


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: spec.default for name, spec in specs_by_name().items()}
    for name, value in config.items():
        if isinstance(value, Mapping):
            settings |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            settings[name] = value
    return settings
