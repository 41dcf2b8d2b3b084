"""The text of a training from nothing: documents, divided by their hash, and token files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.data.sources.documents import iterate_documents, source_bytes
from modelforge.data.sources.load import source_entries
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.pretraining.token_bytes import document_id
from modelforge.modeling.pretraining.token_file import (
    PART_CHARACTERS,
    Encoder,
    TokenFileFacts,
    TokenWindows,
    is_held_out,
    parts_of,
    read_facts,
    write_token_file,
)
from modelforge.train.job import Job, WorkerContext

# A short text is divided into so many parts, so that some are evaluated.
LEAST_PARTS = 200
LEAST_PART_CHARACTERS = 1_000
TRAIN, EVAL = "train.bin", "eval.bin"
NO_EVALUATION = "no-evaluation"


@dataclass(frozen=True)
class Corpus:
    """The tokens of a run: windows to train on, and those to evaluate."""

    train: TokenWindows
    eval: TokenWindows | None


@dataclass
class CorpusHash:
    """Compares the text of a run with that of its checkpoint, which has the hash.

    A resumed run goes on at the same token, so the tokens before it have to be the same.
    """

    sha256: str

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"sha256": self.sha256}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Compare the text with that of a checkpoint.

        Raises:
            WorkerError: It is another one.
        """
        if state["sha256"] == self.sha256:
            return
        what = (
            f"The text has changed since the checkpoint was saved: its hash was "
            f"{state['sha256'][:12]} and is {self.sha256[:12]}."
        )
        remedy = "Restore the files, or start a new run on the changed text."
        raise WorkerError("corpus-changed", Problem("dataset", what, remedy))


def documents(job: Job, *, held_out: bool) -> Iterator[str]:
    """Yield the documents to train on, or those to evaluate.

    Validation sources are evaluated; without them, the share `eval_split` of the documents by
    their hash. A long document is divided into parts, and parts to train on that follow one
    another are joined again.
    """
    record, seed = job.dataset, job.config.trainer.seed
    has_own_source = bool(source_entries(record, "validation"))
    if held_out and has_own_source:
        yield from iterate_documents(record, seed, "validation")
        return
    share = 0.0 if has_own_source else job.config.eval_split
    size = part_size(source_bytes(record))
    for document in iterate_documents(record, seed):
        parts = parts_of(document, size) if share else [document]
        chosen = [is_held_out(part, share) == held_out for part in parts]
        yield from _joined(parts, chosen)


def part_size(text_bytes: int) -> int:
    """Return the characters of a part of a document, for files of `text_bytes`."""
    return max(LEAST_PART_CHARACTERS, min(PART_CHARACTERS, text_bytes // LEAST_PARTS))


def _joined(parts: list[str], chosen: list[bool]) -> Iterator[str]:
    """Yield the chosen parts; neighbours are joined up to the usual size of a part."""
    text = ""
    for part, is_chosen in zip(parts, chosen, strict=True):
        if text and (not is_chosen or len(text) + len(part) > PART_CHARACTERS):
            yield text
            text = ""
        if is_chosen:
            text += part
    if text:
        yield text


def open_corpus(
    context: WorkerContext, tokenizer: Any, folder: Path, context_length: int
) -> Corpus:
    """Return the tokens of the run; the token files are written where they are missing.

    Args:
        context: The run.
        tokenizer: The tokenizer of the model.
        folder: Folder of the token files.
        context_length: Tokens of a window.

    Raises:
        DataError: The text has fewer tokens than a window.
    """
    folder.mkdir(exist_ok=True)
    text = "Tokenizing the text"
    train, held_out = folder / TRAIN, folder / EVAL
    _write(context, tokenizer, train, text, held_out=False)
    _write(context, tokenizer, held_out, "Tokenizing the evaluation text", held_out=True)
    windows = TokenWindows(train, context_length)
    tokens = read_facts(held_out).tokens
    if tokens <= context_length:
        if context.job.config.eval_split or source_entries(context.job.dataset, "validation"):
            note = (
                f"Nothing is evaluated: the evaluation text has {tokens:,} tokens; one "
                f"context needs {context_length + 1:,}."
            )
            context.log.note(NO_EVALUATION, note)
        return Corpus(windows, None)
    return Corpus(windows, TokenWindows(held_out, context_length))


def encoder(tokenizer: Any) -> Encoder:
    """Return a function from texts to token ids, in which special tokens are text."""

    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        return ids

    return encode


def document_token(tokenizer: Any) -> int:
    """Return the id of the token that begins a document: that of the beginning, else of the end.

    Raises:
        WorkerError: The tokenizer has neither.
    """
    try:
        return document_id(tokenizer)
    except ValueError as error:
        remedy = "Choose another tokenizer, or train one on your text (train)."
        problem = Problem("pretraining.tokenizer", str(error), remedy)
        raise WorkerError("no-document-token", problem) from error


def _write(
    context: WorkerContext, tokenizer: Any, path: Path, text: str, *, held_out: bool
) -> TokenFileFacts | None:
    """Write a token file that is missing or incomplete: its facts are written last."""
    if path.with_suffix(".json").is_file():
        return None
    return write_token_file(
        path,
        with_progress(context, documents(context.job, held_out=held_out), text),
        encoder(tokenizer),
        document_id=document_token(tokenizer),
        vocab_size=len(tokenizer),
    )


def with_progress(context: WorkerContext, texts: Iterator[str], text: str) -> Iterator[str]:
    """Yield the texts, and report how many of them were taken; a stop request ends it.

    Progress is in characters of the bytes of the files, so that it is about right.
    """
    total = max(1, source_bytes(context.job.dataset))
    done = 0
    context.log.phase("tokenizing", text, done=0, total=total)
    for each in texts:
        yield each
        done += len(each)
        context.stop.check()
        context.log.phase("tokenizing", text, done=min(done, total - 1), total=total)
    context.log.phase("tokenizing", text, done=total, total=total)
