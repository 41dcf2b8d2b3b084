"""Tokenizers of other models."""

from __future__ import annotations

import json

import pytest

from modelforge.errors import ConfigError, NotFoundError
from modelforge.forge import Forge
from modelforge.models.tokenizer import shared_tokens, tokenizer_folder
from modelforge.paths import Home
from tests.services.test_runs import asked


def tokenizer(folder, *tokens, template=""):
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: index for index, token in enumerate(tokens)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": ids}}), "utf-8")
    values = {"chat_template": template} if template else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(values), "utf-8")
    return folder


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield made
    made.close()


def test_a_tokenizer_is_found_by_folder_or_name(tmp_path):
    home = Home(tmp_path / "home")
    folder = tokenizer(tmp_path / "other", "a", "b")
    assert tokenizer_folder(str(folder), home) == folder
    tokenizer(home.starter_model, "a")
    assert tokenizer_folder("starter", home) == home.starter_model
    for name in (str(tmp_path / "none"), "nobody/nothing", "../none", "a/../b"):
        with pytest.raises(NotFoundError, match="neither a folder nor a model"):
            tokenizer_folder(name, home)
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        tokenizer_folder(str(folder), home)


def test_tokens_are_shared_where_their_ids_are_equal(tmp_path):
    own = tokenizer(tmp_path / "own", "a", "b", "c", "d")
    assert shared_tokens(own, tokenizer(tmp_path / "same", "a", "b")) == 1
    assert shared_tokens(own, tokenizer(tmp_path / "half", "a", "b", "d", "c")) == 0.5
    assert shared_tokens(own, tmp_path) is None


def test_the_check_says_what_the_tokenizer_of_another_model_means(forge, model, data, tmp_path):
    tokenizer(model, "a", "b", "c", "d")
    other = tokenizer(tmp_path / "other", "d", "c", "b", "a", template="x")
    checked = forge.preflight.check(asked(model, data, **{"model.tokenizer": str(other)}))
    assert checked.ready, checked.problems
    assert checked.plan.tokenizer_path == str(other)
    finding = next(one for one in checked.report.findings if one.code == "tokenizer-borrowed")
    assert (finding.level, finding.where) == ("caution", "model.tokenizer")
    assert "Only 0 %" in finding.what
    own = forge.preflight.check(asked(model, data))
    assert own.plan.tokenizer_path is None
    assert "tokenizer-borrowed" not in {one.code for one in own.report.findings}


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(forge, model, data, tmp_path):
    rows = forge.preflight.model(str(model)).embedding_rows
    other = tokenizer(tmp_path / "other", *(f"t{n}" for n in range(rows + 1)))
    checked = forge.preflight.check(asked(model, data, **{"model.tokenizer": str(other)}))
    (blocker,) = (one for one in checked.report.findings if one.level == "blocker")
    assert (blocker.code, blocker.where) == ("tokens-without-rows", "model.tokenizer")
    assert f"{rows + 1:,} tokens" in blocker.what
    missing = forge.preflight.check(asked(model, data, **{"model.tokenizer": "no/where"}))
    assert [problem.where for problem in missing.problems] == ["model.tokenizer"]
