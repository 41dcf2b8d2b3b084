"""What preflight says of the provider: is it here, does it run on this machine, does it suit."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding
from modelforge.preflight.checks.standing import TESTED, unsloth_standing, unsloth_version
from modelforge.preflight.context import Case

METHODS = ("sft", "dpo")
INSTALL = "Run `python launch.py setup --with unsloth`, or install it on the Machine page"
OTHERWISE = "choose the provider huggingface"


def provider_ready(case: Case) -> Iterator[Finding]:
    """Refuse Unsloth where it is absent, broken or cannot run, and offer the other provider."""
    if case.config.provider != "unsloth":
        return
    standing = unsloth_standing(case.machine, case.gpu, device=case.plan.device)
    remedies = {
        "absent": f"{INSTALL}, or {OTHERWISE}.",
        "broken": f"{INSTALL} again, or {OTHERWISE}.",
        "unsupported": f"{OTHERWISE.capitalize()}.",
    }
    if standing.state in remedies:
        yield Finding(
            "blocker",
            f"provider-{standing.state}",
            standing.what,
            remedies[standing.state],
            "provider",
            "huggingface",
        )


def provider_suits(case: Case) -> Iterator[Finding]:
    """Refuse a way of training that Unsloth is not used for here."""
    if case.config.provider == "unsloth" and case.plan.method not in METHODS:
        yield Finding(
            "blocker",
            "provider-unsuited",
            f"Unsloth trains by sft, qlora and dpo here; this run is {case.plan.method}.",
            f"{OTHERWISE.capitalize()}, or another strategy.",
            "provider",
            "huggingface",
        )


def attention_unused(case: Case) -> Iterator[Finding]:
    """Tell that Unsloth computes attention in its own way, whatever was chosen."""
    model = case.config.model
    if case.config.provider == "unsloth" and "attn_implementation" in model.model_fields_set:
        yield Finding(
            "note",
            "attention-unused",
            f"Unsloth chooses how attention is computed; {model.attn_implementation} is not used.",
            f"To have it, {OTHERWISE}.",
            "model.attn_implementation",
        )


def provider_untested(case: Case) -> Iterator[Finding]:
    """Tell of an Unsloth other than the one that was tested with the rest."""
    has = unsloth_version() if case.config.provider == "unsloth" else None
    if has is not None and has != TESTED:
        yield Finding(
            "note",
            "provider-untested",
            f"Unsloth {has} is installed; {TESTED} is the version tested with the rest.",
            "Run `python launch.py setup --with unsloth` if a run fails.",
            "provider",
        )
