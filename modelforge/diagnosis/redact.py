"""Redact secrets, user names, home folders and addresses in text."""

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
SOMEONE = "someone"
# Common account names, which are also words.
COMMON_NAMES = {"root", "user", "admin", "home", "ubuntu", "runner", "nobody", "docker"}
# `tokenizer`, `tokens_per_s`, `eos_token` and `author` are not secrets.
SECRET_NAME = (
    r"(?:(?<!eos_)(?<!bos_)(?<!pad_)(?<!unk_)(?<!sep_)(?<!cls_)(?<!mask_)(?<!end_)token(?!i|s|_id)"
    r"|secret|passw(?:or)?d|passwd|(?:api|access|private)[_-]?key|credential|auth(?!or))"
)
MIN_SECRET_LENGTH = 6

# Repetitions before a character that may be missing are bounded: on a long line without it, each
# start would read the whole line again.
_TOKENS = re.compile(
    rf"{token_pattern(min_length=8)}"
    r"|\beyJ[A-Za-z0-9_-]{8,1000}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r"|\b[0-9a-f]{40}\b(?![0-9a-f])"  # W&B keys, and commit hashes
)
_BEARER = re.compile(r"\b((?:bearer|basic|token)\s+)[A-Za-z0-9+/._~-]{8,}=*", re.IGNORECASE)
# The name may be part of a longer one, and quoted: `"WANDB_API_KEY": "…"`, `--token=…`.
_NAMED = re.compile(
    rf"({SECRET_NAME}[\w.-]{{0,64}}[\"']?\s{{0,64}}[:=]\s{{0,64}})"
    r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&\"'}\]]+)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[\d.,]+")
_IN_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@:]*(?::[^\s/@]*)?@", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,255}(?:\.[\w-]{1,255})+")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S
)
# Backslashes may be doubled, as in JSON, and slashes encoded as %2F.
_SEP = r"(?:/|\\{1,4}|%2[Ff]|%5[Cc])"
_DRIVE = rf"(?:\b[A-Za-z](?::|%3[Aa])|{_SEP}(?:mnt{_SEP})?[A-Za-z])"
_FOLDERS = (
    rf"(?:{_DRIVE}?{_SEP}(?:home|Users|Documents and Settings)|{_SEP}(?:var|export){_SEP}home)"
)
_HOMES = re.compile(rf"{_FOLDERS}{_SEP}[^/\\\s\"'<>|:%,;)\]]+", re.IGNORECASE)


class Redactor:
    """Redact text, and all texts in plain data.

    `secrets` are known secret values, `names` those of users and computers.
    """

    def __init__(
        self, *, homes: Iterable[str] = (), names: Iterable[str] = (), secrets: Iterable[str] = ()
    ) -> None:
        kept = {secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}
        self._secrets = re.compile("|".join(map(re.escape, kept))) if kept else None
        self._homes = _pattern(
            spelling for home in homes if len(home) > 3 for spelling in _spellings(home)
        )
        known = {name for name in names if len(name) > 2 and name.lower() not in COMMON_NAMES}
        self._names = _pattern(known, word=True)

    @classmethod
    def for_this_computer(
        cls, environ: Mapping[str, str] | None = None, *, more_homes: Iterable[str] = ()
    ) -> Redactor:
        """Return a redactor for this computer, its user and the secrets in its environment."""
        environment = os.environ if environ is None else environ
        secret = re.compile(SECRET_NAME, re.IGNORECASE)
        homes = [environment.get(name, "") for name in ("HOME", "USERPROFILE")]
        names = [environment.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")]
        names += [environment.get("COMPUTERNAME", ""), environment.get("HOSTNAME", "")]
        return cls(
            homes=[*homes, *_user_home(), *more_homes],
            names=[*names, *_user_names(), *(Path(home).name for home in homes if home)],
            secrets=[value for name, value in environment.items() if secret.search(name)],
        )

    def redact(self, text: str) -> str:
        """Return the redacted text."""
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
        return self._names.sub(SOMEONE, text) if self._names else text

    def redact_data(self, data: Any) -> Any:
        """Return plain data with all texts redacted, including keys."""
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


def _without_value(match: re.Match[str]) -> str:
    value = match.group(2)
    # `token 5 of 8`, `eos_token: 2`, `auth=None` contain no secret.
    bare = value.strip("\"'")
    if bare.lower() in ("", "none", "null", "true", "false") or _NUMBER.fullmatch(bare):
        return match.group(0)
    if bare.startswith(HIDDEN[:-1]):
        return match.group(0)
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match.group(1)}{quote}{HIDDEN}{quote}"


def _pattern(texts: Iterable[str], *, word: bool = False) -> re.Pattern[str] | None:
    longest_first = sorted({text for text in texts if text}, key=len, reverse=True)
    if not longest_first:
        return None
    joined = "|".join(re.escape(text) for text in longest_first)
    before = r"(?<![A-Za-z0-9])" if word else ""
    return re.compile(rf"{before}(?:{joined})(?![A-Za-z0-9])", re.IGNORECASE)


def _spellings(home: str) -> list[str]:
    """Return the spellings of a folder: slashes, backslashes, doubled, URL-encoded."""
    plain = home.rstrip("/\\")
    slashed = plain.replace("\\", "/")
    backslashed = slashed.replace("/", "\\")
    doubled = backslashed.replace("\\", "\\\\")
    coded = slashed.replace("/", "%2F")
    drive = slashed
    if len(slashed) > 2 and slashed[1] == ":":  # C:/Users/x is /c/Users/x and /mnt/c/Users/x too
        drive = f"/{slashed[0].lower()}{slashed[2:]}"
    return [plain, slashed, backslashed, doubled, coded, drive, f"/mnt{drive}"]


def _user_home() -> list[str]:
    try:
        return [str(Path.home())]
    except RuntimeError:
        return []


def _user_names() -> list[str]:
    try:
        return [getpass.getuser(), platform.node()]
    except (OSError, KeyError):
        return [platform.node()]
