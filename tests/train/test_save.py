"""The model card of a finished run: valid metadata for the Hub, and no path of this computer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelforge.runs.layout import RunFolder

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

BASE = "Qwen/Qwen3-0.6B"


class LlamaForCausalLM:
    """Stands for a whole model, of which a model card needs only class and config."""

    def __init__(self, source: str = BASE) -> None:
        self.config = SimpleNamespace(name_or_path=source, is_encoder_decoder=False)


class BartForConditionalGeneration(LlamaForCausalLM):
    """Stands for an encoder-decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.config.is_encoder_decoder = True


class Adapter:
    """Stands for a model with an adapter."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.peft_config: dict[str, Any] = {}

    def get_base_model(self) -> Any:
        return self._inner


def card_of(
    model: Any, *, base_model: str = BASE, datasets: tuple[str, ...] = (), eval_loss: Any = None
) -> Any:
    """Return the model card as huggingface_hub parses it, including its validation of results."""
    from huggingface_hub import ModelCard

    from modelforge.train.save import model_card

    job: Any = SimpleNamespace(
        name="My run: first",
        run=RunFolder(Path("run")),
        plan=SimpleNamespace(model_path=base_model, model_revision=None, method="sft"),
        dataset={"sources": [{"source": {"path": f"hub:{name}"}} for name in datasets]},
    )
    card = ModelCard(str(model_card(model, job, 1200, eval_loss)))
    assert "language" not in card.data.to_dict()
    return card


def test_an_adapter_names_its_base_model_its_data_and_its_evaluation_loss():
    card = card_of(Adapter(LlamaForCausalLM()), datasets=("trl-lib/Capybara",), eval_loss=1.25)
    assert card.data.base_model == BASE
    assert card.data.base_model_relation == "adapter"
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-generation")
    assert card.data.datasets == ["trl-lib/Capybara"]
    assert card.data.tags == ["modelforge", "lora", "sft"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("loss", 1.25)
    assert result.dataset_type == "trl-lib/Capybara"
    assert card.data.model_name == "My run: first"
    assert f"A LoRA adapter for `{BASE}`, trained with ModelForge for 1,200 steps." in card.text
    assert "AutoPeftModelForCausalLM" in card.text


def test_without_evaluation_and_hub_data_the_card_leaves_both_out():
    card = card_of(BartForConditionalGeneration())
    values = card.data.to_dict()
    assert not {"datasets", "model-index", "license"} & set(values)
    assert values["base_model_relation"] == "finetune"
    assert values["pipeline_tag"] == "summarization"
    assert "AutoModelForSeq2SeqLM" in card.text


@pytest.mark.parametrize("base_model", [BASE, None])
def test_a_base_model_in_a_folder_is_never_named_by_its_path(tmp_path: Path, base_model):
    from huggingface_hub import ModelCardData

    folder = tmp_path / "secret" / "my-model"
    folder.mkdir(parents=True)
    data = ModelCardData(base_model=base_model, license="apache-2.0")
    (folder / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n", encoding="utf-8")
    card = card_of(Adapter(LlamaForCausalLM(str(folder))), base_model=str(folder))
    assert card.data.base_model == base_model
    assert card.data.license == "apache-2.0"
    assert f"`{base_model or 'my-model'}`" in card.text
    assert "secret" not in str(card)


def test_only_data_from_the_hub_is_named():
    from modelforge.train.save import _hub_datasets

    record = {
        "sources": [
            {"source": {"path": "hub:trl-lib/Capybara"}},
            {"source": {"path": "/home/me/rows.jsonl"}},
            {"source": {"path": "hub:trl-lib/Capybara"}},
        ]
    }
    assert _hub_datasets(record) == ["trl-lib/Capybara"]
