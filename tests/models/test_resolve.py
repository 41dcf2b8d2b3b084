"""Models are known from small files alone: folders, the starter, and a stand-in for the Hub."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from huggingface_hub import constants

from modelforge.errors import ConfigError, ForgeError, NotFoundError
from modelforge.models.architecture import parameters_by_shape, read_shape
from modelforge.models.resolve import model_stamp, resolve_model
from modelforge.paths import Home
from tests.models.hubs import Hub

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
QWEN3_06B = {
    **LLAMA,
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
}
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
    },
}
TENSORS = {"model.embed_tokens.weight": [100, 8], "model.norm.weight": [8]}


def safetensors(shapes=TENSORS):
    start, header = 0, {"__metadata__": {"format": "pt"}}
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * start


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model", LLAMA)


def write(folder, config, files=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for name, content in (files or {"model.safetensors": safetensors()}).items():
        (folder / name).write_bytes(content)
    return folder


def refusal(name, home, kind=ForgeError, **more):
    with pytest.raises(kind) as raised:
        resolve_model(str(name), home, **more)
    [problem] = raised.value.problems
    assert problem.where == "model_name"
    assert problem.what.endswith(".")
    assert problem.remedy.endswith(".")
    return f"{problem.what} {problem.remedy}"


# Folders


def test_a_folder_gives_shape_and_exact_size(folder, home):
    facts = resolve_model(str(folder), home)
    assert (facts.parameters, facts.layers, facts.heads, facts.kv_heads) == (808, 30, 9, 3)
    assert (facts.context, facts.vocab, facts.head_dim) == (8192, 49152, 64)
    assert (facts.path, facts.local, facts.kind, facts.tied) == (str(folder), True, "decoder", True)
    assert facts.weights_gib == pytest.approx((folder / "model.safetensors").stat().st_size / 2**30)


def test_a_stored_head_is_not_tied(tmp_path, home):
    tensors = {**TENSORS, "lm_head.weight": [100, 8]}
    folder = write(tmp_path / "model", LLAMA, {"model.safetensors": safetensors(tensors)})
    assert resolve_model(str(folder), home).tied is False


def test_weights_in_several_files_are_added_up(tmp_path, home):
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    files = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "one.safetensors": safetensors({"a": [10, 10]}),
        "two.safetensors": safetensors({"b": [5]}),
    }
    folder = write(tmp_path / "model", LLAMA, files)
    assert resolve_model(str(folder), home).parameters == 105
    (folder / "two.safetensors").unlink()
    assert "1 of 2 weight files" in refusal(folder, home)


def test_an_index_cannot_name_files_elsewhere(tmp_path, home):
    index = {"weight_map": {"a": "../../secret.safetensors", "b": "here.safetensors"}}
    files = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "here.safetensors": safetensors({"b": [5]}),
    }
    (tmp_path / "secret.safetensors").write_bytes(safetensors())
    assert "first a" in refusal(write(tmp_path / "model", LLAMA, files), home)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}'),
    ],
)
def test_a_chat_template_is_found_in_every_file(folder, home, file, content):
    assert resolve_model(str(folder), home).has_chat_template is False
    (folder / file).write_text(content, "utf-8")
    assert resolve_model(str(folder), home).has_chat_template is True


def test_a_model_type_that_transformers_does_not_know_is_refused(tmp_path, home):
    strange = {**LLAMA, "model_type": "strange-9000"}
    assert "'strange-9000'" in refusal(write(tmp_path / "a", strange), home, ConfigError)
    custom = {**strange, "auto_map": {"AutoModelForCausalLM": "modeling.Strange"}}
    assert "its own Python code" in refusal(write(tmp_path / "b", custom), home, ConfigError)


def test_a_known_type_with_own_code_is_accepted_and_marked(tmp_path, home):
    custom = {**LLAMA, "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
    assert resolve_model(str(write(tmp_path / "model", custom)), home).remote_code is True


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"pytorch_model.bin": b"\x80\x02"}, "pickled"),
        ({"model-q4.gguf": b"GGUF"}, "GGUF"),
        ({"README.md": b""}, "no .safetensors"),
        ({"model.safetensors": b"short"}, "not a complete safetensors"),
        ({"model.safetensors": struct.pack("<Q", 2**60) + b"{}"}, "claims"),
        ({"model.safetensors": struct.pack("<Q", 2) + b"[]"}, "not a complete safetensors"),
        ({"model.safetensors": struct.pack("<Q", 9) + b'{"a": 12}'}, "not a complete safetensors"),
    ],
)
def test_weights_that_cannot_be_trusted_or_trained_are_refused(tmp_path, home, files, word):
    assert word in refusal(write(tmp_path / "model", LLAMA, files), home, ConfigError)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "\ud800"])
def test_a_broken_config_is_reported(folder, home, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "config.json" in refusal(folder, home, ConfigError)


@pytest.mark.parametrize("content", ["[]", "3", "{", ""])
@pytest.mark.parametrize(
    "file", ["added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"]
)
def test_a_tokenizer_file_that_is_no_object_is_refused(folder, home, file, content):
    (folder / file).write_text(content, "utf-8")
    assert file in refusal(str(folder), home, ConfigError)


@pytest.mark.parametrize("file", ["special_tokens_map.json", "tokenizer_config.json"])
def test_a_special_token_that_is_no_text_is_refused(folder, home, file):
    known = {"eos_token": {"content": "</s>"}, "pad_token": None, "add_bos_token": False}
    (folder / file).write_text(json.dumps(known), "utf-8")
    assert resolve_model(str(folder), home)
    (folder / file).write_text(json.dumps(known | {"eos_token": 3}), "utf-8")
    assert "eos_token in" in refusal(str(folder), home, ConfigError)


def test_a_config_of_nonsense_gives_unknown_numbers_not_a_crash(tmp_path, home):
    odd = {**LLAMA, "hidden_size": "many", "num_hidden_layers": -1, "vocab_size": True}
    odd |= {"architectures": None, "text_config": [], "quantization_config": "yes"}
    facts = resolve_model(str(write(tmp_path / "model", odd)), home)
    assert (facts.hidden_size, facts.layers, facts.vocab) == (None, None, None)
    assert facts.layer_matrices == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/no/such/folder", "does not exist or cannot be read"),
        ("./no/such/folder", "does not exist or cannot be read"),
        ("~nobody-of-that-name/model", "does not exist or cannot be read"),
        ("../" * 50 + "etc", "config.json"),
        ("/" + "x" * 5000, "does not exist or cannot be read"),
        ("a/b/c", "neither"),
        ("-rf", "neither"),
        ("owner/..", "neither"),
        ("owner/na me", "neither"),
        ("https://huggingface.co/a/b", "neither"),
        ("a\0b", "neither"),
        ("x" * 5000, "neither"),
        ("modèle/été", "neither"),
    ],
)
def test_a_name_that_is_not_a_model_is_refused(home, name, word):
    assert word in refusal(name, home)


def test_an_adapter_is_not_taken_for_a_model(tmp_path, home):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", "utf-8")
    assert "adapter" in refusal(tmp_path / "adapter", home, ConfigError)


def test_the_starter_that_is_not_set_up_names_the_command(home):
    assert "python launch.py setup" in refusal("starter", home, NotFoundError)


def test_the_starter_is_found_in_the_home(home):
    write(home.starter_model, LLAMA)
    facts = resolve_model(" starter ", home)
    assert (facts.name, facts.path) == ("starter", str(home.starter_model))


# Shapes


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(LLAMA, 134_515_008), (GPT2, 124_318_464), (QWEN3_06B, 595_984_384)],
    ids=["SmolLM2", "GPT-2", "Qwen3-0.6B"],
)
def test_the_computed_size_is_the_published_one(config, parameters):
    counted = parameters_by_shape(read_shape(config))
    assert counted == pytest.approx(parameters, rel=0.001)


def test_a_nested_text_config_is_read():
    shape = read_shape(GEMMA3)
    assert (shape["layers"], shape["vocab"], shape["head_dim"]) == (34, 262208, 256)
    assert shape["kind"] == "decoder"


def test_the_size_of_a_mixture_of_experts_is_not_computed():
    assert parameters_by_shape(read_shape({**LLAMA, "num_experts": 64})) is None


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "encoder"),
        ({"model_type": "roberta"}, "encoder"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "encoder"),
        (
            {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            "encoder-decoder",
        ),
        (GPT2, "decoder"),
        (LLAMA, "decoder"),
        ({}, "unknown"),
    ],
)
def test_the_kind_of_model_is_read_from_its_config_alone(config, kind):
    assert read_shape(config)["kind"] == kind


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, ""),
        ({"load_in_4bit": True, "quant_method": "bitsandbytes"}, "4-bit"),
        ({"load_in_8bit": True}, "8-bit"),
        ({"quant_method": "gptq"}, "gptq"),
    ],
)
def test_stored_quantization_is_detected(tmp_path, home, stored, expected):
    config = {**LLAMA, **({"quantization_config": stored} if stored else {})}
    facts = resolve_model(str(write(tmp_path / "model", config)), home)
    assert facts.quantization == expected
    assert facts.parameters == (134_515_008 if stored else 808)


T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_heads": 6,
    "vocab_size": 32128,
}
BART = {
    "architectures": ["BartForConditionalGeneration"],
    "model_type": "bart",
    "is_encoder_decoder": True,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "vocab_size": 50264,
}


@pytest.mark.parametrize(
    ("raw", "layers", "heads", "head_dim", "intermediate"),
    [(T5, 16, 6, 64, 1024), (BART, 24, 16, 64, 4096)],
)
def test_an_encoder_decoder_has_the_layers_of_both(raw, layers, heads, head_dim, intermediate):
    shape = read_shape(raw)
    assert (shape["kind"], shape["layers"]) == ("encoder-decoder", layers)
    assert (shape["heads"], shape["head_dim"]) == (heads, head_dim)
    assert shape["intermediate"] == intermediate


# The Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def model_files(config=LLAMA, **more):
    return {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(), **more}


def test_a_hub_model_is_resolved_without_its_weights(hub, cache, home):
    hub.models["owner/model"] = model_files(**{"chat_template.jinja": b"{{ messages }}"})
    facts = resolve_model("owner/model", home, endpoint=hub.url, cache=cache)
    assert (facts.parameters, facts.revision, facts.local) == (777, "a" * 40, False)
    assert (facts.path, facts.has_chat_template) == ("owner/model", True)
    assert facts.licence == "apache-2.0"
    assert facts.weights_gib > 0
    assert not any("model.safetensors" in path for path in hub.asked)


def test_a_cached_model_makes_no_request(hub, cache, home):
    hub.models["owner/model"] = model_files()
    facts = resolve_model("owner/model", home, endpoint=hub.url, cache=cache)
    folder = Path(next(cache.glob("models--owner--model/snapshots/*")))
    (folder / "model.safetensors").write_bytes(safetensors())
    refs = cache / "models--owner--model" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text("a" * 40, "utf-8")
    hub.down, hub.asked = True, []
    again = resolve_model("owner/model", home, endpoint=hub.url, cache=cache)
    assert (again.local, again.parameters, again.revision) == (True, 808, facts.revision)
    assert hub.asked == []


def test_a_name_unknown_to_the_hub_is_refused(hub, cache, home):
    words = refusal("owner/absent", home, NotFoundError, endpoint=hub.url, cache=cache)
    assert "no model owner/absent" in words


def test_a_gated_model_names_the_page_and_the_login(hub, cache, home):
    hub.models["meta-llama/gated"] = model_files()
    hub.gated.add("meta-llama/gated")
    words = refusal("meta-llama/gated", home, NotFoundError, endpoint=hub.url, cache=cache)
    assert "https://huggingface.co/meta-llama/gated" in words
    assert "hf auth login" in words


@pytest.mark.parametrize("down", ["answers 503", "closed"])
def test_a_hub_that_cannot_be_reached_points_to_the_starter(hub, cache, home, monkeypatch, down):
    url = hub.url
    if down == "closed":
        hub.close()
        hub.close = lambda: None
    hub.down = True
    words = refusal("owner/model", home, NotFoundError, endpoint=url, cache=cache)
    assert "starter" in words


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_no_request_is_made(hub, cache, home, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    words = refusal("owner/model", home, NotFoundError, endpoint=hub.url, cache=cache)
    assert switch in words
    assert hub.asked == []


def test_pickles_and_missing_configs_on_the_hub_are_refused(hub, cache, home):
    hub.models["owner/pickle"] = {
        "config.json": json.dumps(LLAMA).encode(),
        "pytorch_model.bin": b"\x80\x02",
    }
    hub.models["owner/gguf"] = {"model.gguf": b"GGUF"}
    where = {"endpoint": hub.url, "cache": cache}
    assert "pickled" in refusal("owner/pickle", home, ConfigError, **where)
    assert "config.json" in refusal("owner/gguf", home, ConfigError, **where)


@pytest.mark.parametrize(
    "name",
    ["rows.jsonl..", "a.", "a-", "a/b.", "a-/b", "a--b", "a.git", "a/b.git", "a/b/c", "x" * 97],
)
def test_a_name_that_the_hub_refuses_is_no_hub_id(tmp_path, name):
    home = Home(tmp_path)
    assert model_stamp(name, home) == ()
    with pytest.raises(ConfigError, match="nor a Hub id"):
        resolve_model(name, home)
