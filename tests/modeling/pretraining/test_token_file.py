"""Token files: nothing is lost between text and windows."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from modelforge.errors import DataError
from modelforge.modeling.pretraining import token_file as tf

DOCUMENT = 256


def as_bytes(texts):
    return [list(text.encode()) for text in texts]


def written(tmp_path, texts, vocab_size=257):
    path = tmp_path / "train.bin"
    facts = tf.write_token_file(path, texts, as_bytes, document_id=DOCUMENT, vocab_size=vocab_size)
    return path, facts


@pytest.mark.parametrize("vocab_size", [257, 70_000])
@pytest.mark.parametrize("context", [7, 64])
def test_each_token_but_the_first_is_predicted_once(tmp_path, vocab_size, context):
    texts = [f"document {n} of many\n" * (n % 4) for n in range(700)]
    path, facts = written(tmp_path, texts, vocab_size)
    whole = [token for text in texts for token in [DOCUMENT, *text.encode()]]
    windows = tf.TokenWindows(path, context)
    assert facts.tokens == len(whole)
    assert facts.text_bytes == sum(map(len, texts))
    assert facts.documents == 700
    seen = [token for window in windows for token in window["input_ids"].tolist()]
    predicted = [token for window in windows for token in window["shift_labels"].tolist()]
    assert seen == whole[: len(seen)]
    assert predicted == whole[1 : len(seen) + 1]
    assert len(whole) - 1 - len(predicted) < context


def test_a_text_shorter_than_a_context_is_refused_with_both_numbers(tmp_path):
    path, _ = written(tmp_path, ["short"])
    with pytest.raises(DataError, match=r"has 6 tokens; one context needs 9\."):
        tf.TokenWindows(path, 8)
    assert len(tf.TokenWindows(path, 5)) == 1


def test_a_changed_text_changes_the_hash(tmp_path):
    hashes = {
        written(tmp_path, texts)[1].sha256
        for texts in (["ab", "c"], ["a", "bc"], ["ab", "d"], ["c", "ab"])
    }
    assert len(hashes) == 4


def test_the_share_held_out_depends_on_the_text_alone():
    texts = [f"text {n}" for n in range(20_000)]
    held = [text for text in texts if tf.is_held_out(text, 0.05)]
    assert len(held) / len(texts) == pytest.approx(0.05, abs=0.006)
    assert held == [text for text in texts if tf.is_held_out(text, 0.05)]
    assert set(held) < {text for text in texts if tf.is_held_out(text, 0.1)}
    assert not any(tf.is_held_out(text, 0.0) for text in texts)


def test_long_documents_are_divided_at_ends_of_lines_without_loss():
    text = "".join(f"line {n} of a long book\n" for n in range(5_000))
    parts = tf.parts_of(text)
    assert "".join(parts) == text
    assert len(parts) == len(text) // tf.PART_CHARACTERS
    assert all(part.endswith("\n") for part in parts)
    for short in ("", "one line", "x" * 100_000):
        assert tf.parts_of(short) == [short]


def test_groups_of_documents_are_bounded_by_their_characters(tmp_path):
    sizes = []

    def encode(texts):
        sizes.append(sum(map(len, texts)))
        return as_bytes(texts)

    texts = ["x" * 100_000] * 12 + ["y"] * 600
    facts = tf.write_token_file(
        tmp_path / "train.bin", iter(texts), encode, document_id=DOCUMENT, vocab_size=257
    )
    assert max(sizes) == tf.GROUP_CHARACTERS
    assert len(sizes) == 4
    assert facts.tokens == sum(sizes) + 612
    assert facts.documents == 612


def test_facts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, ["some text"])
    assert not (tmp_path / "train.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "train.bin").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        written(tmp_path, ["some text " * 1000] * 20)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "train.json").exists()
