"""Exports of real runs, written and compared with the trained model in this process."""

from __future__ import annotations

import json
import resource

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelforge.export.gguf.architectures import ARCHITECTURES
from modelforge.export.job import Job
from modelforge.export.prompts import held_out
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.exports import GGUF_MODEL_TYPES, ExportRequest
from tests.export.runs import exported, prepared, put_rows, put_tuned

pytestmark = pytest.mark.torch


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def passed(folder):
    result = folder.result()
    assert result.problem is None, (result.problem, folder.log)
    assert result.state == "finished"
    assert result.self_test["passed"]
    assert not folder.staged.exists()
    assert not folder.work.exists()
    names = {path.name for path in folder.files.iterdir()}
    assert {file.name for file in result.files} == names
    return result


@pytest.mark.parametrize("case", ["llama-tied", "qwen3", "gemma3", "phi3", "mistral"])
def test_a_merged_model_answers_like_base_and_adapter(case, model_of, home):
    _model, base = model_of(case)
    run = put_tuned(home, base, name="Support desk")
    folder = exported(home, ExportRequest(run.id, "merged"))
    test = passed(folder).self_test
    assert (test["prompts"], test["same_text"]) == (20, 20)
    assert test["max_logit_difference"] <= 1e-3
    steps = [step.step for step in folder.steps()]
    assert steps == ["merge", "reference", "self-test"]
    assert all(step.share == 1.0 for step in folder.steps())
    merged = AutoModelForCausalLM.from_pretrained(folder.files)
    with torch.no_grad():
        ids = torch.arange(5, 40)[None]
        learned = (merged(ids).logits - _model(ids).logits).abs().max()
    assert learned > 0.1, "the adapter changes nothing, so nothing is compared"
    tokenizer = AutoTokenizer.from_pretrained(folder.files)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(run.output).chat_template


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "dtype", "largest"), [("base", "bfloat16", 0.1), ("float32", "float32", 1e-3)]
)
def test_the_starter_is_merged_in_its_16_bits_or_32(
    starter_folder, home, precision, dtype, largest
):
    run = put_tuned(home, starter_folder, lora={"r": 8})
    folder = exported(home, ExportRequest(run.id, "merged", precision=precision))
    test = passed(folder).self_test
    assert test["max_logit_difference"] <= largest
    assert (test["rounding"] is None) is (precision == "float32")
    config = json.loads((folder.files / "config.json").read_text("utf-8"))
    assert config["dtype"] == dtype


def test_a_gguf_file_answers_like_base_and_adapter(model_of, home):
    _model, base = model_of("qwen3")
    run = put_tuned(home, base, name="Support desk")
    request = ExportRequest(run.id, "gguf", quantization="q8_0")
    predicted = Forge(Home(home)).exports.predict(request)
    folder = exported(home, request)
    result = passed(folder)
    sizes = {file.name: file.bytes for file in result.files}
    assert sizes["Support-desk-Q8_0.gguf"] == pytest.approx(predicted.bytes, rel=0.03)
    assert result.self_test["kl"] < 0.01


def test_a_fully_trained_model_is_copied_without_its_base(model_of, home, tmp_path):
    _model, base = model_of("llama")
    run = put_tuned(home, base, whole=True)
    base.rename(tmp_path / "gone")
    folder = exported(home, ExportRequest(run.id, "merged"))
    assert passed(folder).self_test["max_logit_difference"] == 0
    assert "adapter" not in (folder.files / "README.md").read_text("utf-8").split("\n\n")[0]


def test_several_weights_of_one_embedding_are_untied(model_of, home):
    _model, base = model_of("llama-tied")
    lora = {"target_modules": ["lm_head", "q_proj"]}
    folder = exported(home, ExportRequest(put_tuned(home, base, lora=lora).id, "merged"))
    passed(folder)
    config = json.loads((folder.files / "config.json").read_text("utf-8"))
    assert config["tie_word_embeddings"] is False


def test_a_generation_config_that_cannot_be_saved_is_left_out_in_part(model_of, home):
    _model, base = model_of("llama")
    run = put_tuned(home, base)
    path = run.output / "generation_config.json"
    values = json.loads(path.read_text("utf-8")) | {"temperature": 0.5, "do_sample": False}
    path.write_text(json.dumps(values), "utf-8")
    folder = exported(home, ExportRequest(run.id, "merged"))
    passed(folder)
    written = json.loads((folder.files / "generation_config.json").read_text("utf-8"))
    assert written["eos_token_id"] == values["eos_token_id"]


def test_weights_under_other_names_are_merged_as_a_whole(model_of, home):
    """Files of some models name their weights otherwise than Transformers does."""
    from safetensors.torch import load_file, save_file

    model, base = model_of("llama")
    weights = load_file(base / "model.safetensors")
    renamed = {name.removeprefix("model."): weight for name, weight in weights.items()}
    run = put_tuned(home, base)
    save_file(renamed, base / "model.safetensors", metadata={"format": "pt"})
    loaded = AutoModelForCausalLM.from_pretrained(base)
    assert torch.equal(loaded.model.embed_tokens.weight, model.model.embed_tokens.weight)
    record = json.loads(run.config.read_text("utf-8"))
    del record["base"]
    run.config.write_text(json.dumps(record), "utf-8")
    passed(exported(home, ExportRequest(run.id, "merged")))


def test_a_base_stored_in_4_bit_is_refused_here_too(model_of, home):
    _model, base = model_of("llama")
    run = put_tuned(home, base)
    folder = prepared(Forge(Home(home)), ExportRequest(run.id, "merged"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config), "utf-8")
    from modelforge.export.run import run_export

    assert run_export(folder) == 1
    assert "are stored quantized" in folder.result().problem.what


def test_a_wrong_base_fails_the_self_test(model_of, home, monkeypatch):
    """What is written differs from the trained model: it is kept apart and marked."""
    from modelforge.modeling.merging import model

    _model, base = model_of("llama")
    run = put_tuned(home, base)
    write = model.merge

    def write_with_another_scale(source, adapter, target, progress, **options):
        config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
        (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 80}))
        write(source, adapter, target, progress, **options)
        (adapter / "adapter_config.json").write_text(json.dumps(config))

    monkeypatch.setattr(model, "merge", write_with_another_scale)
    folder = exported(home, ExportRequest(run.id, "merged"))
    result = folder.result()
    assert result.state == "failed"
    assert not result.self_test["passed"]
    assert result.self_test["cause"]
    assert result.problem.remedy
    assert not folder.files.exists()
    assert (folder.not_usable / "model.safetensors").is_file()


def test_a_full_disk_is_named_and_leaves_no_files(model_of, home):
    _model, base = model_of("llama")
    run = put_tuned(home, base)
    folder = prepared(Forge(Home(home)), ExportRequest(run.id, "merged"))
    from modelforge.export.run import run_export

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert run_export(folder) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    problem = folder.result().problem
    assert problem.where == "disk"
    assert str(folder.path) in problem.what
    assert "Free some disk space" in problem.remedy
    assert not folder.staged.exists()
    assert not folder.files.exists()


def test_a_damaged_record_is_a_result(home, model_of):
    _model, base = model_of("llama")
    folder = prepared(Forge(Home(home)), ExportRequest(put_tuned(home, base).id, "merged"))
    record = json.loads(folder.record_file.read_text("utf-8"))
    del record["facts"]["base_name"]
    folder.record_file.write_text(json.dumps(record), "utf-8")
    from modelforge.export.run import run_export

    assert run_export(folder) == 1
    assert folder.result().problem.what.startswith("The record of the export is damaged")


def test_evaluation_rows_are_prompts_while_the_data_is_there(model_of, home, tmp_path):
    _model, base = model_of("llama")
    dataset = put_rows(tmp_path)
    run = put_tuned(home, base, dataset=dataset, eval_split=0.2)
    job = Job.read(prepared(Forge(Home(home)), ExportRequest(run.id, "merged")))
    rows = held_out(job, job.tokenizer())
    assert len(rows) == 8
    for conversation in rows:
        assert [message["role"] for message in conversation] == ["user", "assistant"]
        assert conversation[0]["content"].startswith("What does ")
    (tmp_path / "rows.jsonl").write_text('{"input": "x", "output": "y"}\n', "utf-8")
    assert held_out(job, job.tokenizer()) == []
    (tmp_path / "rows.jsonl").unlink()
    assert held_out(job, job.tokenizer()) == []


def test_the_server_knows_the_model_types_of_gguf():
    assert set(GGUF_MODEL_TYPES) == set(ARCHITECTURES)
