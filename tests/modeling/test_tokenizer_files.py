"""Opening and saving tokenizers whose files hold anything."""

import json
import shutil
from types import SimpleNamespace

import pytest

from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenizer_files import open_tokenizer, save_tokenizer

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("file", "content"),
    [("added_tokens.json", []), ("tokenizer_config.json", {"added_tokens_decoder": ["x"]})],
)
def test_a_tokenizer_that_cannot_be_read_has_a_cause(tiny_model, tmp_path, file, content):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / file).write_text(json.dumps(content), "utf-8")
    with pytest.raises((WorkerError, ValueError)) as refused:
        open_tokenizer(str(folder), local_files_only=True)
    if isinstance(refused.value, WorkerError):
        assert refused.value.cause == "tokenizer-unreadable"


class Unsaveable:
    pad_token = None

    def save_pretrained(self, _folder):
        raise TypeError("not serializable")


def test_files_that_link_out_of_the_model_are_not_copied(tiny_model, tmp_path):
    folder, output = tmp_path / "model", tmp_path / "output"
    shutil.copytree(tiny_model, folder)
    output.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "vocab.txt").symlink_to(secret)
    plan = SimpleNamespace(model_path=str(folder), model_revision=None, tokenizer_path=None)
    assert "the files of the base model are used" in save_tokenizer(Unsaveable(), output, plan)
    assert (output / "tokenizer.json").is_file()
    assert not (output / "vocab.txt").exists()
