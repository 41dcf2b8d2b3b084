"""Write an adapter alone as GGUF, for `--lora` of llama.cpp."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFType, GGUFWriter, Keys, get_tensor_name_map
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import safe_open

from modelforge.errors import Problem, RunError
from modelforge.export.gguf.architectures import architecture_of
from modelforge.export.gguf.write import gguf_name, rotated

_PREFIX, _WEIGHTS = "base_model.model.", "adapter_model.safetensors"
_A, _B = ".lora_A.weight", ".lora_B.weight"
# Parts of PEFT's LoRA that llama.cpp has not, by their setting.
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "modules_to_save": "layers that were trained whole (modules_to_save)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "lora_bias": "biases (lora_bias)",
}


def write_lora(adapter: Path, config: Any, target: Path, name: str) -> None:
    """Write the LoRA adapter in the folder `adapter` as `target`.

    `config` is the Transformers config of its base model, `name` the name in the file.

    Raises:
        RunError: llama.cpp has no such adapter or base model.
    """
    architecture = architecture_of(config)
    settings = LoraConfig(**_settings(adapter))
    names = get_tensor_name_map(architecture.arch, config.num_hidden_layers)
    with (
        safe_open(adapter / _WEIGHTS, framework="pt") as file,
        closing(GGUFWriter(target, architecture.arch.name.lower())) as writer,
    ):
        writer.add_type(GGUFType.ADAPTER)
        writer.add_name(name)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, float(settings.lora_alpha))
        for key in sorted(file.keys()):
            part = _A if key.endswith(_A) else _B
            if not key.endswith(part):
                raise _unsupported(f"the weight {key}")
            layer = key.removeprefix(_PREFIX).removesuffix(part)
            if layer == "lm_head" and config.tie_word_embeddings:
                raise _unsupported("an adapter on output weights that are also the embeddings")
            values = file.get_tensor(key).float()
            if part == _B:
                rank = values.shape[1]
                values *= _scaling(settings, layer, rank) * rank / settings.lora_alpha
                values = rotated(values, f"{layer}.weight", config, architecture)
            label = f"{gguf_name(names, f'{layer}.weight')}.lora_{'a' if part == _A else 'b'}"
            writer.add_tensor(label, np.ascontiguousarray(values.numpy()))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _settings(adapter: Path) -> dict[str, Any]:
    """Return the adapter's settings that matter here; raises RunError for unsupported ones."""
    values: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    if values.get("peft_type") != "LORA":
        raise _unsupported(f"adapters of the type {values.get('peft_type')}")
    for setting, words in _UNSUPPORTED.items():
        if values.get(setting):
            raise _unsupported(words)
    if values.get("bias", "none") != "none":
        raise _unsupported("trained biases (bias)")
    if not values.get("lora_alpha"):
        raise _unsupported("lora_alpha 0")
    keys = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
    return {key: values[key] for key in keys if key in values}


def _scaling(settings: Any, layer: str, rank: int) -> float:
    """Return by how much PEFT multiplies the change of a layer; llama.cpp takes alpha / rank."""
    pattern = get_pattern_key(settings.alpha_pattern.keys(), layer)
    alpha = settings.alpha_pattern.get(pattern, settings.lora_alpha)
    return float(alpha / (rank**0.5 if settings.use_rslora else rank))


def _unsupported(what: str) -> RunError:
    return RunError(
        Problem("gguf", f"llama.cpp cannot load {what} as an adapter.", "Merge it into a GGUF.")
    )
