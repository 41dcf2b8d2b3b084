"""Formats of access tokens, shared by the data checks and the redaction of support bundles."""

from __future__ import annotations

import re
from typing import NamedTuple


class TokenFormat(NamedTuple):
    """The prefixes of a kind of token, a character class of the rest, and its usual length."""

    prefixes: tuple[str, ...]
    characters: str
    length: int


TOKEN_FORMATS = (
    TokenFormat(("hf_", "api_org_"), "[A-Za-z0-9]", 30),  # Hugging Face
    TokenFormat(("sk-",), "[A-Za-z0-9_-]", 20),  # OpenAI, Anthropic
    TokenFormat(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "[A-Za-z0-9]", 30),  # GitHub
    TokenFormat(("github_pat_",), r"\w", 30),
    TokenFormat(("glpat-",), "[A-Za-z0-9_-]", 20),  # GitLab
    TokenFormat(("wandb_v",), "[A-Za-z0-9_]", 30),  # Weights & Biases
    TokenFormat(("AKIA", "ASIA"), "[A-Z0-9]", 16),  # AWS
    TokenFormat(("AIza",), r"[\w-]", 35),  # Google
    TokenFormat(("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"), r"[\w-]", 10),  # Slack
)
PRIVATE_KEY_HEADER = "-----BEGIN "
PREFIXES = tuple(prefix for known in TOKEN_FORMATS for prefix in known.prefixes)


def token_pattern(min_length: int | None = None) -> str:
    """Return a regular expression for all token formats.

    Args:
        min_length: characters required after the prefix; the usual length of each format if None.
    """
    alternatives = (
        f"(?:{'|'.join(known.prefixes)}){known.characters}{{{min_length or known.length},}}"
        for known in TOKEN_FORMATS
    )
    return rf"\b(?:{'|'.join(alternatives)})"


SECRET = re.compile(rf"{token_pattern()}|{PRIVATE_KEY_HEADER}[A-Z ]{{0,20}}PRIVATE KEY-----")
