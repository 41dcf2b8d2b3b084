"""Everything that is wrong with a request is named at once, before anything is created."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace

import pytest

from modelforge.errors import BusyError, ConfigError, ForgeError, MissingPackageError, NotFoundError
from modelforge.models.resolve import resolve_model
from modelforge.runs.atomic_files import read_json
from modelforge.runs.exports import ExportRequest
from modelforge.services.exports import sources
from modelforge.services.jobs import trained_run
from tests.runs.homes import put_run
from tests.services.exports.conftest import put_model, put_trained


def asked(run, **more) -> ExportRequest:
    return ExportRequest(run.id, **{"format": "merged"} | more)


def refusal(forge, request) -> ForgeError:
    with pytest.raises(ForgeError) as caught:
        forge.exports.start(request)
    assert forge.exports.list() == []
    return caught.value


def whats(error: ForgeError) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in error.problems]


def test_wrong_values_are_named_together(server, run):
    request = ExportRequest(
        "20200101-000000-ffff", "hub", quantization="q3", repository="me", density=0.0,
        adapters=(("a", 0.0), ("a", 1.0)),
    )  # fmt: skip
    error = refusal(server(), request)
    assert isinstance(error, ConfigError)
    assert whats(error) == [
        "quantization: 'q3' is not known.",
        "repository: 'me' is not a repository of the Hub.",
        "density: It is 0.",
        "adapters: a is named twice.",
        "adapters: The weight 0 has no effect.",
        "run: There is no run '20200101-000000-ffff'.",
    ]
    assert all(problem.remedy for problem in error.problems)


def test_a_precision_belongs_to_merged_weights_of_an_adapter(server, run, tmp_path, model):
    forge = server()
    for more in ({"format": "adapter"}, {"format": "gguf"}):
        (what,) = whats(refusal(forge, asked(run, precision="float32", **more)))
        assert what == f"precision: float32 is for merged weights, not for {more['format']}."
    (what,) = whats(refusal(forge, asked(run, precision="int4")))
    assert what == "precision: 'int4' is not known."
    whole = put_trained(tmp_path / "home", model, 2, whole=True)
    (what,) = whats(refusal(forge, asked(whole, precision="float32")))
    assert what.startswith("precision: The run has no adapter")
    base, wide = (
        forge.exports.predict(asked(run, precision=each)).bytes for each in ("base", "float32")
    )
    assert base <= wide


@pytest.mark.parametrize("run_id", ["", "..", "../runs", "/etc/passwd", "a/b"])
def test_an_id_that_is_a_path_leads_nowhere(server, run_id):
    forge = server()
    assert isinstance(refusal(forge, ExportRequest(run_id, "merged")), NotFoundError)
    for act in (forge.exports.view, forge.exports.path, forge.exports.stop, forge.exports.delete):
        with pytest.raises(NotFoundError):
            act(run_id)


def test_runs_without_a_result_are_named_with_their_state(server, tmp_path):
    forge = server()
    failed = put_run(tmp_path / "home", 1, ending="failed", name="Failed")
    assert whats(refusal(forge, asked(failed))) == ["run: “Failed” has no model: it is failed."]


def test_a_deleted_run_can_be_restored(server, run):
    forge = server()
    forge.trash.delete([run.id])
    error = refusal(forge, asked(run))
    assert whats(error) == [f"run: The run {run.id} was deleted."]
    assert error.problems[0].remedy == f"Restore it first: modelforge runs restore {run.id}"


def test_a_base_model_that_is_gone_is_named_with_its_place(server, run, model):
    shutil.rmtree(model)
    error = refusal(server(), asked(run))
    assert isinstance(error, NotFoundError)
    assert whats(error) == [f"base model: The base model tiny is not at {model} any more."]


@pytest.mark.parametrize("changed", ["weights", "config"])
def test_a_base_model_that_was_changed_is_refused(server, run, model, changed):
    if changed == "weights":
        raw = bytearray((model / "model.safetensors").read_bytes())
        raw[-1] ^= 1
        (model / "model.safetensors").write_bytes(raw)
    else:
        config = read_json(model / "config.json") | {"rope_theta": 5.0}
        (model / "config.json").write_text(json.dumps(config), "utf-8")
    error = refusal(server(), asked(run))
    assert whats(error) == [
        f"base model: The base model tiny in {model} is not the one of the training any more."
    ]


def test_runs_of_earlier_versions_have_no_hash_and_are_exported(server, run):
    record = read_json(run.config)
    del record["base"]
    run.config.write_text(json.dumps(record), "utf-8")
    assert server().exports.predict(asked(run)).bytes


def test_a_model_of_the_hub_is_found_in_its_revision(server, run, tmp_path, monkeypatch):
    revision = "0123456789abcdef0123456789abcdef01234567"
    record = read_json(run.config)
    record["config"]["model_name"] = record["plan"]["model_path"] = "someone/small"
    record["plan"]["model_revision"] = revision
    run.config.write_text(json.dumps(record), "utf-8")
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    forge = server()
    error = refusal(forge, asked(run))
    assert whats(error) == ["base model: The base model someone/small is not on this computer."]
    assert "modelforge storage download someone/small" in error.problems[0].remedy

    repository = cache / "models--someone--small"
    (repository / "refs").mkdir(parents=True)
    other = "f" * 40
    (repository / "refs" / "main").write_text(other, "utf-8")
    put_model(repository / "snapshots" / other)
    error = refusal(forge, asked(run))
    assert whats(error) == [
        "base model: The base model someone/small is here as fffffff; the run used 0123456."
    ]
    assert error.problems[0].remedy.endswith(f"hf download someone/small --revision {revision}")

    put_model(repository / "snapshots" / revision)
    view = forge.exports.start(asked(run))
    facts = forge.exports.folder(view.id).record().facts
    assert facts["base_name"] == "someone/small"
    assert facts["base_revision"] == revision
    assert facts["base_path"] == str(repository / "snapshots" / revision)
    assert facts["base_hash"] == ""


def test_a_base_model_stored_in_4_bit_is_not_merged_into(server, tmp_path):
    quantized = put_model(tmp_path / "small", quantization_config={"load_in_4bit": True})
    run = put_trained(tmp_path / "home", quantized)
    forge = server()
    error = refusal(forge, asked(run))
    assert whats(error) == ["base model: The weights of small are stored quantized (4-bit)."]
    assert forge.exports.predict(asked(run, format="adapter")).bytes


@pytest.mark.parametrize("format", ["gguf", "ollama"])
def test_a_model_type_without_a_map_is_no_gguf(server, tmp_path, format):
    other = put_model(tmp_path / "falcon", model_type="falcon")
    error = refusal(server(), asked(put_trained(tmp_path / "home", other), format=format))
    assert whats(error) == ["format: Models of the type falcon cannot be written as GGUF."]
    assert "llama, mistral" in error.problems[0].remedy


@pytest.mark.parametrize(
    ("format", "content", "fits"),
    [
        ("adapter", "adapter", True), ("merged", "adapter", True), ("hub", "adapter", True),
        ("gguf", "adapter", False), ("ollama", "adapter", False), ("mlx", "adapter", False),
        ("hub", "gguf", False),
    ],
)  # fmt: skip
def test_formats_of_an_encoder_decoder(server, tmp_path, model, format, content, fits):
    run = put_trained(tmp_path / "home", model, method="seq2seq")
    request = asked(run, format=format, content=content, repository="me/it")
    if fits:
        assert server().exports.predict(request).bytes
    else:
        error = refusal(server(), request)
        assert "generates text from left to right" in error.problems[0].what


def test_a_fully_trained_model_has_no_adapter_and_needs_no_base(server, tmp_path, model):
    run = put_trained(tmp_path / "home", model, whole=True)
    shutil.rmtree(model)
    forge = server()
    for more, remedy in (
        ({"format": "adapter"}, "Export the whole model: choose merged, gguf, ollama or mlx."),
        ({"format": "hub", "repository": "me/it"}, "choose merged or gguf as the content."),
    ):
        error = refusal(forge, asked(run, **more))
        assert whats(error) == ["format: The run has no adapter: every weight was trained."]
        assert error.problems[0].remedy.endswith(remedy)
    view = forge.exports.start(asked(run))
    facts = forge.exports.folder(view.id).record().facts
    assert (facts["base_path"], facts["base_name"], facts["adapters"]) == (None, "tiny", [])


def test_adapters_of_other_base_models_are_refused_by_name(server, run, tmp_path):
    other = put_model(tmp_path / "other", vocab_size=65)
    second = put_trained(tmp_path / "home", other, 2, name="Second")
    third = put_trained(tmp_path / "home", tmp_path / "tiny", 3, name="Third", rank=8)
    forge = server()
    both = ((second.id, 1.0), (third.id, 1.0))
    assert whats(refusal(forge, asked(run, adapters=both, combination="linear"))) == [
        "adapters: The adapter of “Second” was trained on other, not on tiny.",
        "combination: The adapter of “Third” has the rank 8, that of the run 4.",
    ]
    fitting = asked(run, adapters=((third.id, 0.5),), combination="cat", weight=2.0)
    view = forge.exports.start(fitting)
    parts = forge.exports.folder(view.id).record().facts["adapters"]
    assert [(part["run"], part["weight"]) for part in parts] == [(run.id, 2.0), (third.id, 0.5)]


def test_llama_cpp_is_named_with_its_extra_where_it_is_missing(server, run, monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda _name: None)
    forge = server()
    error = refusal(forge, asked(run, format="gguf"))
    assert isinstance(error, MissingPackageError)
    assert "--with gguf" in error.problems[0].remedy
    assert forge.exports.predict(asked(run, format="gguf")).bytes


def test_an_active_run_is_exported_later(server, run):
    run.events.write_text("", "utf-8")
    run.process.write_text(f'{{"launching": {time.time()}}}', "utf-8")
    error = refusal(server(), asked(run))
    assert isinstance(error, BusyError)
    assert whats(error) == ["run: “Support desk, first try!” is in progress."]


def test_a_base_model_is_read_again_only_when_it_has_changed(server, run, model, monkeypatch):
    forge, read = server(), []
    monkeypatch.setattr(
        trained_run, "resolve_model", lambda *names: read.append(names) or resolve_model(*names)
    )
    first = forge.exports.predict(asked(run))
    # Other programs use the disk as well.
    again = replace(forge.exports.predict(asked(run)), disk_free=first.disk_free)
    assert again == first
    assert len(read) == 1
    (model / "tokenizer.json").write_text('{"added_tokens": []}', "utf-8")
    forge.exports.predict(asked(run))
    assert len(read) == 2


def test_a_request_is_read_back_as_it_was(run):
    request = asked(run, adapters=(("b", 0.5),))
    assert ExportRequest.from_dict(vars(request)) == request
    assert request.uses("b")
    assert not request.uses("c")
    assert replace(request, format="hub", content="gguf").written == "gguf"
