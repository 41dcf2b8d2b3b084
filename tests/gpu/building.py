"""Tiny models of random weights, made from nothing: a decoder, an encoder-decoder, an encoder.

Wide enough for what cards are particular about: heads of 64, layers in multiples of 128.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ("What", "does", "red", "blue", "green", "amber", "mean", "ship", "is", "It", "No", "idea")
WIDTH, HEADS, INNER, LAYERS, LONGEST = 256, 4, 512, 2, 512
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def decoder(folder: Path) -> Path:
    """A Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_rounded(len(tokenizer)),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=LONGEST,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def encoder_decoder(folder: Path) -> Path:
    """A T5."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = byte_tokenizer(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=_rounded(len(tokenizer)),
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=INNER,
        num_layers=LAYERS,
        num_heads=HEADS,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def encoder(folder: Path) -> Path:
    """A BERT whose tokenizer knows single letters."""
    import string

    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    signs = string.ascii_lowercase + string.digits
    words = [*names.values(), *signs, *(f"##{sign}" for sign in signs), *string.punctuation]
    pieces = BertWordPieceTokenizer({word: number for number, word in enumerate(words)})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces._tokenizer, **names)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=_rounded(len(words)),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=LONGEST,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


MAKERS = {"decoder": decoder, "encoder-decoder": encoder_decoder, "encoder": encoder}


def byte_tokenizer(folder: Path, longest: int = LONGEST) -> Any:
    """Save and return a tokenizer of single bytes and a few words, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(WORDS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|pad|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        model_max_length=longest,
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def _rounded(size: int) -> int:
    return -(-size // 128) * 128
