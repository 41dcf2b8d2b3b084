"""Text made fit to be shown to others: no tokens, no names, no home folders, no addresses."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelforge.data.checks.secrets import token_pattern

HIDDEN = "[hidden]"
HOME = "~"
NOBODY = "someone"
# Names that stand on every computer of a kind tell nobody anything, and are words besides.
COMMON_NAMES = {"root", "user", "admin", "home", "ubuntu", "runner", "nobody", "docker"}
# `tokenizer`, `tokens_per_s`, `eos_token` and `author` are no secrets.
SECRET_NAME = (
    r"(?:(?<!eos_)(?<!bos_)(?<!pad_)(?<!unk_)(?<!sep_)(?<!cls_)(?<!mask_)(?<!end_)token(?!i|s|_id)"
    r"|secret|passw(?:or)?d|passwd|(?:api|access|private)[_-]?key|credential|auth(?!or))"
)
LEAST_SECRET = 6

_TOKENS = re.compile(
    rf"{token_pattern(min_length=8)}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r"|\b[0-9a-f]{40}\b(?![0-9a-f])"  # W&B keys, and commits, which nobody misses
)
_BEARER = re.compile(r"\b((?:bearer|basic|token)\s+)[A-Za-z0-9+/._~-]{8,}=*", re.IGNORECASE)
# The name may be part of a longer one and in quotes: `"WANDB_API_KEY": "…"`, `--token=…`.
_NAMED = re.compile(
    rf"([\w.-]*{SECRET_NAME}[\w.-]*[\"']?\s*[:=]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&\"'}}\]]+)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[\d.,]+")
_IN_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@:]*(?::[^\s/@]*)?@", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S
)
# Backslashes may stand doubled, as in JSON, and slashes as %2F.
_SEP = r"(?:/|\\{1,4}|%2[Ff]|%5[Cc])"
_DRIVE = rf"(?:\b[A-Za-z](?::|%3[Aa])|{_SEP}(?:mnt{_SEP})?[A-Za-z])"
_FOLDERS = (
    rf"(?:{_DRIVE}?{_SEP}(?:home|Users|Documents and Settings)|{_SEP}(?:var|export){_SEP}home)"
)
_HOMES = re.compile(rf"{_FOLDERS}{_SEP}[^/\\\s\"'<>|:%,;)\]]+", re.IGNORECASE)


class Redactor:
    """Takes out of text what is nobody's business: `redact` for text, `redact_data` for plain data.

    `secrets` are values that are known to be secret, `names` those of the people and machines.
    """

    def __init__(
        self, *, homes: Iterable[str] = (), names: Iterable[str] = (), secrets: Iterable[str] = ()
    ) -> None:
        kept = {secret for secret in secrets if len(secret) >= LEAST_SECRET}
        self._secrets = re.compile("|".join(map(re.escape, kept))) if kept else None
        self._homes = _any_of(
            spelling for home in homes if len(home) > 3 for spelling in _spellings(home)
        )
        known = {name for name in names if len(name) > 2 and name.lower() not in COMMON_NAMES}
        self._names = _any_of(known, word=True)

    @classmethod
    def for_this_computer(
        cls, environ: Mapping[str, str] | None = None, *, more_homes: Iterable[str] = ()
    ) -> Redactor:
        """Return what is to be hidden of this computer, its user and its environment."""
        environment = os.environ if environ is None else environ
        secret = re.compile(SECRET_NAME, re.IGNORECASE)
        told = [environment.get(name, "") for name in ("HOME", "USERPROFILE")]
        names = [environment.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")]
        names += [environment.get("COMPUTERNAME", ""), environment.get("HOSTNAME", "")]
        return cls(
            homes=[*told, *_own_home(), *more_homes],
            names=[*names, *_own_names(), *(Path(home).name for home in told if home)],
            secrets=[value for name, value in environment.items() if secret.search(name)],
        )

    def redact(self, text: str) -> str:
        """Return the text without anything that is to be hidden."""
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        text = _PRIVATE_KEY.sub(HIDDEN, text)
        text = _IN_URL.sub(rf"\1{HIDDEN}@", text)
        text = _BEARER.sub(rf"\1{HIDDEN}", text)
        text = _NAMED.sub(_without_value, text)
        text = _TOKENS.sub(HIDDEN, text)
        if self._homes:
            text = self._homes.sub(HOME, text)
        text = _HOMES.sub(HOME, text)
        text = _MAIL.sub(HIDDEN, text)
        return self._names.sub(NOBODY, text) if self._names else text

    def redact_data(self, data: Any) -> Any:
        """Return plain data with every text in it made fit, keys included."""
        if isinstance(data, str):
            return self.redact(data)
        if isinstance(data, Mapping):
            secret = re.compile(SECRET_NAME, re.IGNORECASE)
            return {
                self.redact(str(key)): HIDDEN
                if isinstance(value, str) and value and secret.search(str(key))
                else self.redact_data(value)
                for key, value in data.items()
            }
        return [self.redact_data(one) for one in data] if isinstance(data, (list, tuple)) else data


def _without_value(found: re.Match[str]) -> str:
    value = found.group(2)
    # `token 5 of 8`, `eos_token: 2`, `auth=None` tell no secret.
    bare = value.strip("\"'")
    if bare.lower() in ("", "none", "null", "true", "false") or _NUMBER.fullmatch(bare):
        return found.group(0)
    if bare.startswith(HIDDEN[:-1]):
        return found.group(0)
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found.group(1)}{quote}{HIDDEN}{quote}"


def _any_of(texts: Iterable[str], *, word: bool = False) -> re.Pattern[str] | None:
    longest_first = sorted({text for text in texts if text}, key=len, reverse=True)
    if not longest_first:
        return None
    joined = "|".join(re.escape(text) for text in longest_first)
    before = r"(?<![A-Za-z0-9])" if word else ""
    return re.compile(rf"{before}(?:{joined})(?![A-Za-z0-9])", re.IGNORECASE)


def _spellings(home: str) -> list[str]:
    """Return the ways a folder is written: with slashes, backslashes, doubled, or for a URL."""
    plain = home.rstrip("/\\")
    slashed = plain.replace("\\", "/")
    backslashed = slashed.replace("/", "\\")
    doubled = backslashed.replace("\\", "\\\\")
    coded = slashed.replace("/", "%2F")
    drive = slashed
    if len(slashed) > 2 and slashed[1] == ":":  # C:/Users/x is /c/Users/x and /mnt/c/Users/x too
        drive = f"/{slashed[0].lower()}{slashed[2:]}"
    return [plain, slashed, backslashed, doubled, coded, drive, f"/mnt{drive}"]


def _own_home() -> list[str]:
    try:
        return [str(Path.home())]
    except RuntimeError:
        return []


def _own_names() -> list[str]:
    try:
        return [getpass.getuser(), platform.node()]
    except (OSError, KeyError):
        return [platform.node()]
