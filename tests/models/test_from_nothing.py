"""The facts of a model that is trained from nothing: borrowed tokenizers and embeddings."""

from __future__ import annotations

import json

import pytest

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, NotFoundError
from modelforge.models.from_nothing import new_model
from modelforge.paths import Home
from tests.models.folders import SMALL_LLAMA, write_model, write_weights

WIDTH = SMALL_LLAMA["hidden_size"]


@pytest.fixture
def other(tmp_path):
    """A model with 300 tokens, and embeddings of 64 numbers for them."""
    folder = write_model(tmp_path / "other")
    vocabulary = {"model": {"vocab": {f"t{number}": number for number in range(300)}}}
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary), "utf-8")
    return folder


def facts_of(tmp_path, tokenizer, **group):
    values = {"enabled": True, "tokenizer": str(tokenizer), "freeze_embeddings": True, **group}
    config = TrainingConfig(dataset="text.txt", compute_specs="low_end", pretraining=values)
    return new_model(config, Home(tmp_path / "home"))


def problem_of(tmp_path, tokenizer, **group):
    with pytest.raises(ConfigError) as error:
        facts_of(tmp_path, tokenizer, **group)
    (problem,) = error.value.problems
    assert problem.where == "pretraining.freeze_embeddings"
    return problem


def test_embeddings_of_the_same_width_are_borrowed(tmp_path, other):
    info = facts_of(tmp_path, other, d_model=WIDTH)
    assert (info.hidden_size, info.tokens, info.vocab) == (WIDTH, 300, 300)


def test_another_width_is_named_with_the_one_that_fits(tmp_path, other):
    problem = problem_of(tmp_path, other)
    assert "have 64 numbers for a token; the new model has a width of 384" in problem.what
    assert "Set pretraining.d_model to 64" in problem.remedy
    assert facts_of(tmp_path, other, freeze_embeddings=False).hidden_size == 384


def test_tokens_without_an_embedding_are_named(tmp_path, other):
    tensor = {"dtype": "F32", "shape": [200, WIDTH], "data_offsets": [0, 200 * WIDTH * 4]}
    data = bytes(200 * WIDTH * 4)
    write_weights(other, {"model.embed_tokens.weight": tensor}, data)
    problem = problem_of(tmp_path, other, d_model=WIDTH)
    assert "has embeddings for 200 tokens, of 300" in problem.what


def test_a_model_that_is_not_there_has_no_tokenizer_to_borrow(tmp_path):
    with pytest.raises(NotFoundError, match=r"pretraining\.tokenizer"):
        facts_of(tmp_path, tmp_path / "nowhere")
