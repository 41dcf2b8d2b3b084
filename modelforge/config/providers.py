"""Providers: the libraries that load the model, and the facts that depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Provider = Literal["huggingface", "unsloth"]


@dataclass(frozen=True)
class ProviderFacts:
    """What the rest of the code asks about a provider.

    Attributes:
        label: Name for people.
        package: Package beyond the training stack; its version is recorded with runs and
            measurements.
        patches: Packages that it patches when it is imported, so that it must be imported before.
        adds_adapter: It adds the adapter itself, with its own initialization and dtype.
    """

    label: str
    package: str = ""
    patches: tuple[str, ...] = ()
    adds_adapter: bool = False


PROVIDER_FACTS: dict[str, ProviderFacts] = {
    "huggingface": ProviderFacts("Hugging Face"),
    "unsloth": ProviderFacts(
        "Unsloth",
        package="unsloth",
        patches=("transformers", "trl", "peft"),
        adds_adapter=True,
    ),
}
assert set(PROVIDER_FACTS) == set(get_args(Provider)), "a provider is missing"
PROVIDER_PACKAGES = tuple(facts.package for facts in PROVIDER_FACTS.values() if facts.package)
