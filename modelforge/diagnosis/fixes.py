"""What a button can do against a cause: the settings to change, worked out from the run's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelforge.config.fields import specs_by_name

Said = Mapping[str, Any]
Patch = dict[str, Any]

APPLY = "Apply and start again"
AGAIN = "Start again"
SHORTEST = 256
GENTLEST = 1e-6


def fix_action(name: str, config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the action of that name for a run with these settings, or None if it has none.

    `config` is what was said, nested or by dotted names; `plan.` names what the plan made of it.
    """
    if name in _LINKS:
        label, href = _LINKS[name]
        return {"label": label, "kind": "link", "href": href}
    if name == "resume":
        return {"label": "Go on from the checkpoint", "kind": "resume"}
    if config is None or not name:
        return None
    if name == "again":
        return {"label": AGAIN, "settings": {}}
    patch = _PATCHES[name](_flat(config))
    return {"label": APPLY, "settings": patch} if patch else None


def _less_memory(said: Said) -> Patch:
    """Halve the batch and keep what an update learns from; then the dearer ways."""
    batch = said["per_device_train_batch_size"]
    if batch > 1:
        smaller = batch // 2
        whole = batch * said["gradient_accumulation_steps"]
        return {
            "per_device_train_batch_size": smaller,
            "gradient_accumulation_steps": -(-whole // smaller),
        }
    if not said["gradient_checkpointing"]:
        return {"gradient_checkpointing": True}
    return _shorter(said)


def _shorter(said: Said) -> Patch:
    length = said["max_seq_length"]
    if not isinstance(length, int) or length <= 0:
        length = said.get("plan.max_length") or 0
    return {"max_seq_length": max(SHORTEST, length // 2)} if length > SHORTEST else {}


def _gentler(said: Said) -> Patch:
    """Lower the rate; fp16, which overflows first, becomes a format that does not."""
    patch: Patch = {}
    if said["learning_rate"] > GENTLEST:
        patch["learning_rate"] = float(f"{said['learning_rate'] / 4:.2g}")
    if said["fp16"] or "fp16" in (said["hardware.precision"], said.get("plan.precision")):
        patch |= _full_precision(said)
    return patch


def _full_precision(said: Said) -> Patch:
    switched = {name: False for name in ("fp16", "bf16") if said[name]}
    if not switched and said["hardware.precision"] == "fp32":
        return {}
    return {**switched, "hardware.precision": "fp32"}


def _plain_weights(said: Said) -> Patch:
    patch: Patch = {}
    if said["strategy"] == "qlora":
        patch["strategy"] = "sft"
    patch |= {name: False for name in ("use_4bit", "use_8bit") if said[name]}
    if said["quantization.scheme"] not in ("auto", "none"):
        patch["quantization.scheme"] = "none"
    return patch


def _to(name: str, value: Any) -> Callable[[Said], Patch]:
    return lambda said: {} if said[name] == value else {name: value}


_LINKS = {
    "room": ("Free some disk space", "/machine"),
    "machine": ("Open the Machine page", "/machine"),
}
_PATCHES: dict[str, Callable[[Said], Patch]] = {
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
    said = {name: spec.default for name, spec in specs_by_name().items()}
    for name, value in config.items():
        if isinstance(value, Mapping):
            said |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            said[name] = value
    return said
