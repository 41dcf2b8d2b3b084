"""Checks of the text of a row: control characters, markup, personal data and secrets.

They run on every row, so that a cheap test of the bytes precedes every regular expression.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

from modelforge.data.canonical.cells import parse_cell
from modelforge.data.checks.secrets import PREFIXES, PRIVATE_KEY_HEADER, SECRET

# The control characters 0 to 3 separate the parts of a fingerprint and are checked elsewhere.
_CONTROLS = bytes([*range(4, 9), 11, 12, *range(14, 32), 127])
_DIGITS = b"0123456789"
_NON_DIGITS = bytes(byte for byte in range(256) if byte not in _DIGITS)
_NON_CONTROLS = bytes(byte for byte in range(256) if byte not in _CONTROLS)
# Only these bytes can begin a finding; all others are deleted before the text is checked.
_RELEVANT = _CONTROLS + _DIGITS + b"@<&+_-A"
_IRRELEVANT = bytes(byte for byte in range(256) if byte not in _RELEVANT)
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789 .-/()", b"000000000------")
_MIN_PHONE_DIGITS = 8
LAST_SEPARATOR = "\x03"
_WITHOUT_SEPARATORS = dict.fromkeys(range(4))
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_END_TOKENS = (
    *("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<|eom_id|>"),
    *("</s>", "<eos>", "<end_of_turn>", "<|end▁of▁sentence|>", "<｜end▁of▁sentence｜>"),
    *("<|return|>", "<|END_OF_TURN_TOKEN|>", "<|end_of_role|>", "<turn|>", "[EOS]"),
)
END_TOKENS = re.compile(rf"(?:\s*(?:{'|'.join(map(re.escape, _END_TOKENS))}))+\s*\Z")
_SPECIAL = re.compile(
    r"<\|[A-Za-z_▁0-9]{2,40}\|>|<｜[^<>｜\s]{2,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|</s>(?=\s*(?:[\x00-\x03]|\Z))"
)
_PLACEHOLDER = re.compile(
    r"\{\{\s*[\w.]{1,40}\s*\}\}|\[(?:your|insert|enter)[ _][^\[\]\n]{1,40}\]"
    r"|<(?:your|insert)[ _][^<>\n]{1,40}>",
    re.IGNORECASE,
)
HTML = re.compile(
    r"</?(?:p|div|br|span|a|table|tr|td|th|ul|ol|li|b|i|u|em|strong|font|img|h[1-6]|script|style"
    r"|iframe|blockquote|pre|code)(?:\s[^<>]{0,400})?/?>|&(?:nbsp|amp|lt|gt|quot|#\d{1,6});",
    re.IGNORECASE,
)
EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
PHONE = re.compile(
    r"\+\d{1,3}[ .\-/()]{0,2}(?:\d[ .\-/()]{0,2}){7,12}(?!\d)"
    r"|(?<![\d-])\(?\d{3}\)?[ .-]{1,2}\d{3}[.-]\d{4}(?![\d-])"
)
# Prefixes of secrets by a relevant byte that each contains.
_SECRET_PREFIXES = {
    byte: [prefix for prefix in (*PREFIXES, PRIVATE_KEY_HEADER) if chr(byte) in prefix]
    for byte in b"-_A"
}
NO_INFORMATION = frozenset(
    ["-", "--", "...", "…", "?", ".", "n/a", "na", "none", "null", "nan", "nil", "todo", "tbd"]
)
MAX_NEAR_EMPTY_CHARS = 12


def check_text(text: str, encoded: bytes) -> Iterator[str]:
    """Yield the codes of the findings in a fingerprint; `encoded` is the text as UTF-8."""
    relevant = encoded.translate(None, _IRRELEVANT)
    if relevant:
        yield from _check_relevant(relevant, text, encoded)
    if b"INST]" in encoded and _SPECIAL.search(text):
        yield "special-tokens"
    if len(encoded) != len(text):
        if "\ufffd" in text:
            yield "replaced-characters"
        if b"\xc2" in encoded and CONTROL.search(text.translate(_WITHOUT_SEPARATORS)):
            yield "control-characters"


def check_answer(answer: str) -> Iterator[str]:
    """Yield the codes of the findings in one answer."""
    last = answer.rstrip()[-1:]
    if last in (">", "]") and END_TOKENS.search(answer[-200:]):
        yield "end-token-in-answer"
    if ("{{" in answer or "[" in answer or "<" in answer) and _PLACEHOLDER.search(answer):
        yield "placeholder"
    if last == "]" and answer.lstrip().startswith("['") and isinstance(parse_cell(answer), list):
        yield "list-as-text"


def _check_relevant(relevant: bytes, text: str, encoded: bytes) -> Iterator[str]:
    if relevant.translate(None, _NON_CONTROLS):
        yield "control-characters"
    if b"@" in relevant and EMAIL.search(text):
        yield "e-mail"
    if (b"<" in relevant or b"&" in relevant) and HTML.search(text):
        yield "html"
    if b"<" in relevant and _SPECIAL.search(text):
        yield "special-tokens"
    if len(relevant) >= _MIN_PHONE_DIGITS:
        digits = len(relevant.translate(None, _NON_DIGITS))
        likely = b"+" in relevant or b"000-0000" in encoded.translate(_DIGITS_TO_ZERO)
        if digits >= _MIN_PHONE_DIGITS and likely and PHONE.search(text):
            yield "phone-number"
    if _may_hold_secret(relevant, text) and SECRET.search(text):
        yield "secret-key"


def _may_hold_secret(relevant: bytes, text: str) -> bool:
    for byte, prefixes in _SECRET_PREFIXES.items():
        if byte in relevant and any(prefix in text for prefix in prefixes):
            return True
    return False


def is_near_empty(completion: str) -> bool:
    """Return whether a completion is punctuation only, or a placeholder such as n/a or TODO."""
    if len(completion) > MAX_NEAR_EMPTY_CHARS:
        return False
    word = completion.strip().lower()
    return word in NO_INFORMATION or not any(character.isalnum() for character in word)


_ASCII = re.compile(r"[\x00-\x7f]+")
# The first code point of a range and the script of its letters; "" for characters without script.
_BLOCKS = (
    (0x0000, "Latin"), (0x0250, ""), (0x0370, "Greek"), (0x0400, "Cyrillic"), (0x0530, "Armenian"),
    (0x0590, "Hebrew"), (0x0600, "Arabic"), (0x0900, "Devanagari"), (0x0980, "Bengali"),
    (0x0A00, "other"), (0x0B80, "Tamil"), (0x0C00, "other"), (0x0E00, "Thai"), (0x0E80, "other"),
    (0x10A0, "Georgian"), (0x1100, "Hangul"), (0x1200, "other"), (0x1E00, "Latin"),
    (0x1F00, "Greek"), (0x2000, ""), (0x2E80, "Han"), (0x3000, ""), (0x3040, "Kana"),
    (0x3100, "Han"), (0x3130, "Hangul"), (0x3190, "Han"), (0xA000, "other"), (0xAC00, "Hangul"),
    (0xD7B0, ""), (0xF900, "Han"), (0xFB00, ""), (0xFB50, "Arabic"), (0xFE00, ""),
    (0xFE70, "Arabic"), (0xFF00, ""), (0x20000, "Han"), (0x30000, ""),
)  # fmt: skip
_STARTS = [start for start, _ in _BLOCKS]
_SCRIPTS = [script for _, script in _BLOCKS]


def detect_script(text: str) -> str:
    """Return the script of most letters near the start, such as Latin or Han; “none” without."""
    head = text[:240]
    if head.isascii():
        return "Latin" if any(map(str.isalpha, head)) else "none"
    non_ascii = _ASCII.sub("", head)[:32]
    counts = Counter(_SCRIPTS[bisect_right(_STARTS, ord(letter)) - 1] for letter in non_ascii)
    del counts[""]
    if "Kana" in counts:  # Japanese mixes kana with Han characters.
        return "Kana"
    if len(non_ascii) < 32:
        counts["Latin"] += sum(map(str.isalpha, head)) - sum(map(str.isalpha, non_ascii))
    # Symbols and emoji belong to no script.
    script, count = max(counts.items(), key=lambda item: item[1], default=("none", 0))
    return script if count else "none"
