"""Train a tokenizer on the user's text: byte-level BPE, saved as a fast tokenizer with ChatML.

Every text has tokens and comes back from them byte for byte. Digits are tokens of their own, and
words are divided as in GPT-2, so that llama.cpp knows the division under the name "smollm".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from modelforge.errors import DataError, Problem

# Begins every document, and stands for "no more text".
DOCUMENT = "<|endoftext|>"
TURN_BEGIN, TURN_END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIAL = (DOCUMENT, TURN_BEGIN, TURN_END, PAD)
BYTES = 256
LEAST_VOCABULARY = BYTES + len(SPECIAL)
# More text than this changes the merges little.
MOST_CHARACTERS = 200_000_000


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, context: int, chat_template: str
) -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on the first 200 million characters of the texts.

    Args:
        texts: documents; read once.
        vocab_size: number of tokens, at least 260 (256 bytes and 4 special tokens).
        context: most tokens of the model.
        chat_template: Jinja template of conversations, with the tokens of ChatML.

    Raises:
        DataError: the texts support fewer tokens.
    """
    if vocab_size < LEAST_VOCABULARY:
        raise ValueError(f"A vocabulary has at least {LEAST_VOCABULARY} tokens, not {vocab_size}.")
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_first_characters(texts, MOST_CHARACTERS), trainer)
    if (found := tokenizer.get_vocab_size()) < vocab_size:
        what = f"The text supports {found:,} tokens; {vocab_size:,} are asked for."
        remedy = f"Add text, or set the vocabulary size to {found:,} or less."
        raise DataError(Problem("pretraining.vocab_size", what, remedy))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=DOCUMENT,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[TURN_BEGIN],
        clean_up_tokenization_spaces=False,
        model_max_length=context,
        chat_template=chat_template,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer into a model folder."""
    tokenizer.save_pretrained(folder)


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _first_characters(texts: Iterable[str], most: int) -> Iterator[str]:
    left = most
    for text in texts:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)
