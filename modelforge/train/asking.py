"""Held-out rows as questions to a model: the prompt it is given, and the answers that are right."""

from __future__ import annotations

from modelforge.data.canonical.convert import Canonical
from modelforge.data.canonical.qa import in_words
from modelforge.modeling.tokenize.options import Manner
from modelforge.modeling.tokenize.render import led
from modelforge.modeling.tokenize.seq2seq import encode_summary
from modelforge.modeling.tokenize.template import REFUSALS, Dialect
from modelforge.train.generate import Exam, Hall, Setter


def conversing(dialect: Dialect, manner: Manner) -> tuple[Setter, Hall]:
    """Return how a decoder is asked: in a conversation that ends where its answer begins."""
    tokenizer = dialect.tokenizer

    def examine(row: Canonical) -> Exam | None:
        turns = (in_words(row) if "context" in row else row).get("messages", [])
        places = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
        if not places or not places[-1]:
            return None
        said = led(turns[: places[-1]], dialect.system_prompt)
        try:
            text = dialect.render(said, prompt=True)
        except REFUSALS:
            return None
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if "context" in row:
            wanted = [answer["text"] for answer in row["answers"]]
        else:
            wanted = [turns[places[-1]]["content"]]
        # A prompt that fills all there is to read leaves no room for an answer.
        return Exam(ids, wanted) if len(ids) < manner.max_length else None

    return examine, Hall(tokenizer, sorted(dialect.stops), follows=True, most=manner.max_length)


def rewriting(dialect: Dialect, manner: Manner) -> tuple[Setter, Hall]:
    """Return how an encoder-decoder is asked: with the document as it was trained."""

    def examine(row: Canonical) -> Exam | None:
        found = encode_summary(row, dialect, manner)
        if found is None:
            return None
        text = dialect.tokenizer.decode(found.target, skip_special_tokens=True)
        return Exam(found.source, [text])

    hall = Hall(dialect.tokenizer, sorted(dialect.stops), follows=False, most=manner.max_length)
    return examine, hall
