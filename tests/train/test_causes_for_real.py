"""The libraries fail for real, and the catalogue of causes knows what they say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.diagnosis.classify import match_text
from modelforge.modeling.errors import explain

pytestmark = pytest.mark.torch
Fails = Callable[[Path, Path], Any]


def _template(text: str | None) -> Fails:
    def fails(model: Path, _folder: Path) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = text
        return tokenizer.apply_chat_template([{"role": "user", "content": "x"}])

    return fails


def _described(described: dict[str, Any]) -> Fails:
    def fails(_model: Path, folder: Path) -> Any:
        from transformers import AutoConfig

        (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)

    return fails


def _weights(head: int, then: bytes = b"") -> Fails:
    def fails(model: Path, folder: Path) -> Any:
        from transformers import AutoModelForCausalLM

        for file in model.glob("*.json"):
            shutil.copy(file, folder)
        whole = (model / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:head] + then)
        return AutoModelForCausalLM.from_pretrained(folder)

    return fails


def _no_weights(model: Path, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    shutil.copy(model / "config.json", folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def _no_tokenizer(model: Path, folder: Path) -> Any:
    from transformers import AutoTokenizer

    shutil.copy(model / "config.json", folder)
    return AutoTokenizer.from_pretrained(folder)


def _attention(name: str) -> Fails:
    def fails(model: Path, _folder: Path) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(model, attn_implementation=name)

    return fails


def _too_much_memory(_model: Path, _folder: Path) -> Any:
    import torch

    return torch.empty(10**15)


def _no_card(_model: Path, _folder: Path) -> Any:
    import torch

    if torch.version.cuda is not None:
        pytest.skip("this torch was built with CUDA")
    return torch.zeros(1, device="cuda")


def _no_such_layers(model: Path, _folder: Path) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    return get_peft_model(base, LoraConfig(target_modules=["nonsense"], task_type="CAUSAL_LM"))


def _token_too_high(model: Path, _folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model)(torch.full((1, 4), 10**6))


def _no_gradient(_model: Path, _folder: Path) -> Any:
    import torch

    return torch.ones(1).sum().backward()


def _pickled(_model: Path, folder: Path) -> Any:
    import torch

    torch.save({"a": print}, folder / "x.pt")
    return torch.load(folder / "x.pt", weights_only=True)


def _no_such_column(_model: Path, folder: Path) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"a": [1]}).select_columns(["text"])


def _bf16_trainer(_model: Path, folder: Path) -> Any:
    import torch
    from transformers import TrainingArguments

    if torch.cuda.is_available():
        pytest.skip("there is a card that does bf16")
    return TrainingArguments(output_dir=str(folder), bf16=True)


def _offline(_model: Path, folder: Path) -> Any:
    from huggingface_hub import hf_hub_download

    return hf_hub_download("nobody/nothing", "config.json", cache_dir=folder, local_files_only=True)


def _full(_model: Path, _folder: Path) -> Any:
    with Path("/dev/full").open("w") as file:
        file.write("x")
        file.flush()


FAILURES: list[tuple[Fails, str]] = [
    (_too_much_memory, "out-of-memory"),
    (_no_card, "torch-without-gpu"),
    (_described({"model_type": "wonder9"}), "model-unsupported"),
    (_described({}), "model-unsupported"),
    (_described({"model_type": "w9", "auto_map": {"AutoConfig": "x.Y"}}), "model-unsafe"),
    (_no_weights, "model-unsafe"),
    (_weights(100_000), "weights-damaged"),
    (_weights(0, b"\0" * 5000), "weights-damaged"),
    (_weights(0, b"\xff" * 5000), "weights-damaged"),
    (_weights(0), "weights-damaged"),
    (_no_tokenizer, "tokenizer-missing"),
    (_template("{% for m in messages %}{{ m['content'] }"), "template-broken"),
    (_template("{{ messages[0].foo.bar }}"), "template-broken"),
    (
        _template("{{ raise_exception('Conversation roles must alternate user/assistant') }}"),
        "template-refuses",
    ),
    (_template(None), "template-missing"),
    (_attention("flash_attention_2"), "flash-attention"),
    (_no_such_layers, "layers-unknown"),
    (_token_too_high, "too-long"),
    (_no_gradient, "nothing-trained"),
    (_pickled, "model-unsafe"),
    (_no_such_column, "wrong-column"),
    (_bf16_trainer, "number-format"),
    (_offline, "hub-offline"),
    (_full, "disk-full"),
]


@pytest.mark.parametrize(("fails", "code"), FAILURES, ids=[code for _, code in FAILURES])
def test_a_library_that_fails_is_understood(
    fails: Fails, code: str, tiny_model: Path, tmp_path: Path
) -> None:
    if fails is _full and not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("there is no /dev/full on this system")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of every kind
        fails(tiny_model, tmp_path)
    error = raised.value
    entry = match_text(f"{type(error).__name__}: {error}")
    assert entry is not None, error
    assert entry.code == code
    assert explain(error).cause == code
