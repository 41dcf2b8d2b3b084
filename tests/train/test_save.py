"""What a run saves: its model card, and the weights whatever the model's other files hold."""

from __future__ import annotations

import json
import shutil
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
        plan=SimpleNamespace(
            model_path=base_model, model_revision=None, method="sft", is_from_nothing=False
        ),
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
    from modelforge.runs.portable.model_card import hub_datasets

    record = {
        "sources": [
            {"source": {"path": "hub:trl-lib/Capybara"}},
            {"source": {"path": "/home/me/rows.jsonl"}},
            {"source": {"path": "hub:trl-lib/Capybara"}},
        ]
    }
    assert hub_datasets(record) == ["trl-lib/Capybara"]


WEIGHTS = {True: "adapter_model.safetensors", False: "model.safetensors"}
GENERATION = {
    "do_sample": False,
    "temperature": 0.6,
    "top_p": 0.9,
    "pad_token_id": -1,
    "max_new_tokens": 0,
    "num_return_sequences": 4,
}
CARD = "---\nlicense: [\n---\n\xff"


@pytest.fixture
def hostile_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with side files that Transformers or the Hub's library refuse."""
    folder = tmp_path / "hostile"
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION), encoding="utf-8")
    (folder / "README.md").write_text(CARD, encoding="latin-1")
    return folder


@pytest.mark.parametrize("adapter", [True, False])
def test_a_model_with_hostile_side_files_is_trained_and_saved(bench, hostile_model, adapter):
    run = bench.prepare(
        model_path=str(hostile_model),
        adapter={"enabled": adapter},
        trainer={"save_steps": 1},
        max_steps=2,
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert (run.output / WEIGHTS[adapter]).is_file()
    assert {path.name for path in run.checkpoints.iterdir()} >= {"checkpoint-2"}
    assert (run.output / "tokenizer.json").is_file()
    saved = json.loads((run.output / "generation_config.json").read_text("utf-8"))
    assert not saved.keys() & (GENERATION.keys() - {"pad_token_id", "do_sample"})
    notes = {event.data["code"]: event.data["text"] for event in events if event.kind == "note"}
    assert "temperature, top_p of" in notes["generation-fields-dropped"]


def test_a_file_that_cannot_be_written_for_its_contents_loses_no_weights(
    bench, monkeypatch: pytest.MonkeyPatch
):
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise ValueError("It is invalid:\n- `field`: of another kind")

    monkeypatch.setattr("modelforge.train.save.model_card", refuse)
    monkeypatch.setattr(GenerationConfig, "save_pretrained", refuse)
    run = bench.prepare(trainer={"save_steps": -1}, max_steps=1)
    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", refuse)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    assert (run.output / "adapter_model.safetensors").is_file()
    texts = [
        event.data["text"] for event in events if event.data.get("code") == "side-file-missing"
    ]
    assert len(texts) == 3
    assert "`field`: of another kind" in texts[0]


# A comment of the template that cannot be written as UTF-8.
UNWRITABLE = "{# \ud800 #}"


@pytest.fixture
def unsaveable_tokenizer(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a chat template that Transformers reads and cannot save."""
    folder = tmp_path / "unsaveable"
    shutil.copytree(tiny_model, folder)
    template = (folder / "chat_template.jinja").read_text("utf-8")
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) | {"chat_template": UNWRITABLE + template}
    path.write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize("adapter", [True, False])
def test_a_tokenizer_that_cannot_be_saved_is_copied_to_every_folder(
    bench, unsaveable_tokenizer, adapter
):
    from transformers import AutoTokenizer

    run = bench.prepare(
        model_path=str(unsaveable_tokenizer),
        adapter={"enabled": adapter},
        trainer={"save_steps": 1},
        max_steps=2,
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    text = "Pad this sentence, please."
    wanted = AutoTokenizer.from_pretrained(unsaveable_tokenizer)(text).input_ids
    for folder in (run.output, *run.checkpoints.iterdir()):
        assert (folder / WEIGHTS[adapter]).is_file()
        assert AutoTokenizer.from_pretrained(folder)(text).input_ids == wanted
    [noted] = [
        event.data["text"] for event in events if event.data.get("code") == "side-file-missing"
    ]
    assert "Instead, the files of the base model are used." in noted


def test_the_reward_model_keeps_its_padding_token_in_a_copied_tokenizer(
    bench, unsaveable_tokenizer, tmp_path
):
    bench.rows = tmp_path / "pairs.jsonl"
    pairs = [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No"} for n in range(8)
    ]
    bench.rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), "utf-8")
    run = bench.prepare(
        model_path=str(unsaveable_tokenizer),
        strategy="rlhf",
        max_steps=1,
        trainer={"num_generations": 2, "max_completion_length": 4},
    )
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    config = json.loads((run.reward_model / "tokenizer_config.json").read_text("utf-8"))
    base = json.loads((unsaveable_tokenizer / "tokenizer_config.json").read_text("utf-8"))
    assert config["pad_token"] != base.get("pad_token")
    assert config["chat_template"] == base["chat_template"]
