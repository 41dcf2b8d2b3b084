"""A fast tokenizer as GGUF metadata, read from its tokenizer.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from gguf import GGUFWriter, TokenType

from modelforge.errors import Problem, RunError

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
_GPT4O = "|".join(
    [*(f"{word}{_CONTRACTIONS}?" for word in _CASED), rf"\p{{N}}{{1,3}}|{_CASED_REST}"]
)
# How llama.cpp splits a text before it merges: the rules of tokenizer.json → its name for them.
# "digits" and "gpt2" stand for the pre-tokenizers Digits and ByteLevel with use_regex.
_SPLITS: dict[tuple[str, ...], str] = {
    ("gpt2",): "gpt-2",
    ("digits", "gpt2"): "smollm",
    (rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}",): "qwen2",
    (rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",): "llama-bpe",
    (rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_CASED_REST}",): "tekken",
    (_GPT4O,): "gpt-4o",
}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model in the order of their ids, and how a text is split into them.

    `model` is "gpt2" for byte-level BPE, with `merges` and the name `pre` of the split before it,
    and "llama" for BPE over characters with bytes as fallback, where the token with the highest
    of `scores` is merged first.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    adds_space: bool


def read_vocabulary(tokenizer: Any, rows: int) -> Vocabulary:
    """Return the vocabulary of a fast tokenizer for an embedding with that many rows.

    Rows without a token get unused ones.

    Raises:
        RunError: It has more tokens than rows, or llama.cpp has no tokenizer of this kind.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise _unknown(f"a tokenizer of the type {model['type']}")
    is_byte_level = _is_byte_level(state)
    if not is_byte_level and not model.get("byte_fallback"):
        raise _unknown("BPE without bytes as fallback")
    added = {token["id"]: token for token in state["added_tokens"]}
    tokens, types = _tokens(model, added, rows, is_byte_level)
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    return Vocabulary(
        model="gpt2" if is_byte_level else "llama",
        pre=_split_name(state) if is_byte_level else "default",
        tokens=tokens,
        types=types,
        scores=[] if is_byte_level else _scores(tokens, pairs),
        merges=[" ".join(pair) for pair in pairs] if is_byte_level else [],
        adds_space=not is_byte_level and _adds_space(state),
    )


def add_tokenizer(writer: GGUFWriter, tokenizer: Any, rows: int, stop_ids: list[int]) -> None:
    """Write vocabulary, special tokens and chat template.

    `stop_ids` are the ids that end an answer, the first one as the end token.
    """
    vocabulary = read_vocabulary(tokenizer, rows)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.adds_space)
    ids = {"bos": tokenizer.bos_token_id, "unk": tokenizer.unk_token_id}
    ids |= {"pad": tokenizer.pad_token_id, "eos": next(iter(stop_ids), tokenizer.eos_token_id)}
    # llama.cpp has places for three, and knows common ones by their text.
    ids |= dict(zip(("eot", "eom"), stop_ids[1:], strict=False))
    for name, token in ids.items():
        if token is not None:
            getattr(writer, f"add_{name}_token_id")(token)
    plain, full = (tokenizer("a", add_special_tokens=flag)["input_ids"] for flag in (False, True))
    writer.add_add_bos_token(full[: len(full) - len(plain)][:1] == [tokenizer.bos_token_id])
    writer.add_add_eos_token(len(full) > len(plain) and full[-1] == tokenizer.eos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(
    model: dict[str, Any], added: dict[int, dict[str, Any]], rows: int, is_byte_level: bool
) -> tuple[list[str], list[int]]:
    names = {number: text for text, number in model["vocab"].items()}
    names |= {number: token["content"] for number, token in added.items()}
    if max(names) >= rows:
        raise RunError(
            Problem(
                "gguf",
                f"The tokenizer has {max(names) + 1:,} tokens; the embeddings have {rows:,} rows.",
                "Use the tokenizer that belongs to the model.",
            )
        )
    tokens, types = [], []
    for number in range(rows):
        text = names.get(number)
        tokens.append(f"[PAD{number}]" if text is None else text)
        if text is None:
            types.append(TokenType.UNUSED)
        elif text == model.get("unk_token") and not is_byte_level:
            types.append(TokenType.UNKNOWN)
        elif number in added:
            special = added[number]["special"]
            types.append(TokenType.CONTROL if special else TokenType.USER_DEFINED)
            # llama.cpp looks for these in the text as it was given.
            tokens[-1] = text.replace(_SPACE, " ")
        elif not is_byte_level and _BYTE_TOKEN.fullmatch(text):
            types.append(TokenType.BYTE)
        else:
            types.append(TokenType.NORMAL)
    return tokens, [int(kind) for kind in types]


def _scores(tokens: list[str], pairs: list[list[str]]) -> list[float]:
    """Return a score per token: the earlier its first merge, the higher."""
    ranks: dict[str, int] = {}
    for left, right in pairs:
        ranks.setdefault(left + right, len(ranks))
    last = len(ranks)
    return [-float(ranks.get(token, last)) for token in tokens]


def _parts(state: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the steps of the normalizer or pre-tokenizer, with sequences resolved."""
    step = state.get(kind)
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    children = step.get("pretokenizers", step.get("normalizers", []))
    return [part for child in children for part in _parts({kind: child}, kind)]


def _is_byte_level(state: dict[str, Any]) -> bool:
    return any(part["type"] == "ByteLevel" for part in _parts(state, "pre_tokenizer"))


def _split_name(state: dict[str, Any]) -> str:
    rules = []
    for part in _parts(state, "pre_tokenizer"):
        if part["type"] == "Digits" and part["individual_digits"]:
            rules.append("digits")
        elif part["type"] == "Split":
            pattern = part["pattern"].get("Regex", part["pattern"].get("String", ""))
            rules.append("gpt2" if pattern in _GPT2 else pattern)
        elif part["type"] == "ByteLevel":
            rules += ["gpt2"] if part.get("use_regex", True) else []
        else:
            rules.append(part["type"])
    if (name := _SPLITS.get(tuple(rules))) is None:
        raise _unknown(f"a split of texts by {' and '.join(rules) or 'nothing'}")
    return name


def _adds_space(state: dict[str, Any]) -> bool:
    if any(part["type"] == "Prepend" for part in _parts(state, "normalizer")):
        return True
    return any(
        part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never"
        for part in _parts(state, "pre_tokenizer")
    )


def _unknown(what: str) -> RunError:
    return RunError(
        Problem("gguf", f"llama.cpp has no match for {what}.", "Export the merged model instead.")
    )
