"""The provider unsloth: its calls of the library, the import order, and the adapter.

Unsloth cannot be imported without an NVIDIA GPU. Its signatures come from its wheel
(`scripts/unsloth_signatures.py`), and from the installed package where there is one.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from modelforge.runs.events import EventWriter, read_events
from modelforge.train import environment

ROOT = Path(__file__).resolve().parents[3]
KNOWN = json.loads((Path(__file__).parent / "data" / "unsloth.json").read_text(encoding="utf-8"))
# Arguments of Transformers' from_pretrained, to which FastLanguageModel passes them.
HANDED_ON = {"quantization_config", "use_safetensors", "local_files_only"}
# What peft's LoraConfig takes; get_peft_model hands it on.
OF_LORA = {"use_dora"}
NAME = "modelforge.modeling.providers.unsloth"
WITNESS = """
import sys
came_before = sorted({"trl", "transformers", "peft"} & set(sys.modules))
print(f"came before: {came_before}", flush=True)
raise ImportError("no card for Unsloth")
"""

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


class StandIn:
    """FastLanguageModel's surface over transformers and peft; only arguments Unsloth takes."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}
        self.adapted: dict[str, Any] = {}
        self.refuses = ""

    def from_pretrained(self, **settings: Any) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM

        for function in ("FastLanguageModel.from_pretrained", "FastModel.from_pretrained"):
            assert_taken(function, settings, HANDED_ON)
        self.loaded = settings
        model = AutoModelForCausalLM.from_pretrained(settings["model_name"])
        return model, SimpleNamespace(changed="by Unsloth")

    def get_peft_model(self, model: Any, **settings: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        for function in ("FastLanguageModel.get_peft_model", "FastModel.get_peft_model"):
            assert_taken(function, settings, OF_LORA)
        self.adapted = settings
        if self.refuses:
            raise TypeError(self.refuses)
        names = ("r", "lora_alpha", "lora_dropout", "target_modules", "bias")
        shape = LoraConfig(task_type="CAUSAL_LM", **{name: settings[name] for name in names})
        return get_peft_model(model, shape)


def assert_taken(function: str, settings: dict[str, Any], handed_on: set[str]) -> None:
    known = KNOWN["functions"][function]
    unknown = set(settings) - set(known["takes"])
    assert unknown <= handed_on
    assert not unknown or known["others"]


@pytest.fixture
def unsloth(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The provider over a stand-in, and the stand-in."""
    stand_in = StandIn()
    module = ModuleType("unsloth")
    module.FastLanguageModel = stand_in  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unsloth", module)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME), stand_in
    sys.modules.pop(NAME, None)


def job_of(bench: Any, **settings: Any) -> Any:
    from modelforge.train.job import Job

    asked = {"provider": "unsloth", "max_seq_length": 64, **settings}
    return Job.read(bench.prepare(**asked))


def on_cuda(job: Any) -> Any:
    return replace(job.plan, device="cuda")


def ignore(_done: int, _total: int) -> None:
    """Ignore progress."""


def test_the_signatures_are_those_of_the_installed_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"unsloth=={KNOWN['version']}" in project["optional-dependencies"]["unsloth"]


def test_unsloth_accepts_our_versions() -> None:
    from packaging.requirements import Requirement

    ours = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")
    wanted = [Requirement(line) for line in KNOWN["requires"]]
    checked = [each for each in wanted if each.name in ours]
    assert {each.name for each in checked} == set(ours)
    for each in checked:
        assert each.specifier.contains(metadata.version(each.name).partition("+")[0]), each


def test_the_worker_sets_the_environment_variables_that_disable_telemetry() -> None:
    assert KNOWN["switches"] == ["UNSLOTH_DISABLE_STATISTICS", "HF_HUB_OFFLINE"]
    assert environment.VARIABLES["UNSLOTH_DISABLE_STATISTICS"] == "1"


@pytest.mark.parametrize(("whole", "how"), [("", "unsloth"), ("embed_tokens, lm_head", True)])
def test_it_writes_no_pickle_of_whole_embeddings_into_the_model_folder(unsloth, whole, how) -> None:
    """Its own checkpointing saves them there: `input_embeddings.pt`."""
    provider, _stand_in = unsloth
    settings = SimpleNamespace(
        gradient_checkpointing=True, adapter=SimpleNamespace(modules_to_save=whole)
    )
    assert provider._checkpointing(settings) == how


@pytest.mark.skipif(not find_spec("unsloth"), reason="Unsloth is not installed")
def test_the_installed_unsloth_has_the_same_signatures() -> None:
    spec = spec_from_file_location("signatures", ROOT / "scripts" / "unsloth_signatures.py")
    assert spec
    assert spec.loader
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    installed = Path(str(metadata.distribution("unsloth").locate_file("")))
    for called, (file, owner) in script.FUNCTIONS.items():
        source = (installed / file).read_text(encoding="utf-8")
        name = called.partition(".")[2]
        assert script.arguments(source, owner, name) == KNOWN["functions"][called]


@pytest.mark.parametrize(
    ("settings", "loads"),
    [
        ({"use_4bit": True, "strategy": "qlora"}, (True, False, False)),
        ({"use_8bit": True, "strategy": "qlora"}, (False, True, False)),
        ({}, (False, False, False)),
        ({"adapter": {"enabled": False}}, (False, False, True)),
    ],
    ids=["4-bit", "8-bit", "16-bit", "all weights"],
)
def test_the_model_is_loaded_as_the_plan_says(bench, unsloth, settings, loads) -> None:
    from peft import PeftModel

    provider, stand_in = unsloth
    job = job_of(bench, gradient_checkpointing=True, **settings)
    loaded = provider.load(on_cuda(job), job.config, ignore)
    arguments = stand_in.loaded
    assert (
        arguments["load_in_4bit"],
        arguments["load_in_8bit"],
        arguments["full_finetuning"],
    ) == loads
    assert (arguments["trust_remote_code"], arguments["use_safetensors"]) == (False, True)
    assert arguments["use_exact_model_name"]  # never another copy of the model
    assert arguments["max_seq_length"] == 64
    assert arguments["use_gradient_checkpointing"] == "unsloth"
    assert isinstance(loaded.model, PeftModel) is not loads[2]
    assert loaded.tokenizer.is_fast  # the tokenizer of the token preview


def test_the_4_bit_type_is_the_configured_one(bench, unsloth) -> None:
    provider, _ = unsloth
    job = job_of(bench, use_4bit=True, bnb_4bit_quant_type="fp4", use_nested_quant=False)
    asked = provider.model_arguments(job.plan, job.config)["quantization_config"]
    assert (asked.bnb_4bit_quant_type, asked.bnb_4bit_use_double_quant) == ("fp4", False)


def test_the_adapter_is_the_configured_one(bench, unsloth) -> None:
    provider, stand_in = unsloth
    job = job_of(bench, lora_r=4, lora_alpha=12, lora_dropout=0.0, trainer={"seed": 7})
    loaded = provider.load(on_cuda(job), job.config, ignore)
    adapted = stand_in.adapted
    assert (adapted["r"], adapted["lora_alpha"], adapted["lora_dropout"]) == (4, 12, 0.0)
    assert adapted["target_modules"] == list(provider.LAYERS)
    assert (adapted["bias"], adapted["random_state"]) == ("none", 7)
    assert adapted["use_gradient_checkpointing"] is False
    # The seven are all the linear layers of such a model.
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from modelforge.modeling.adapters.lora import lora_config

    ours = get_peft_model(
        AutoModelForCausalLM.from_pretrained(bench.model), lora_config(job.config, job.plan)
    )
    names = ({name for name, _ in model.named_parameters()} for model in (loaded.model, ours))
    assert next(names) == next(names)


def test_a_model_with_other_layers_gets_adapters_on_all_linear_layers(bench, unsloth) -> None:
    from torch.nn import Linear, ModuleDict

    provider, _ = unsloth
    job = job_of(bench)
    other = ModuleDict({"query_key_value": Linear(2, 2), "o_proj": Linear(2, 2)})
    arguments = provider.adapter_arguments(other, job.plan, job.config)
    assert arguments["target_modules"] == "all-linear"


def test_an_unsupported_adapter_is_refused(bench, unsloth) -> None:
    from modelforge.modeling.errors import explain

    provider, stand_in = unsloth
    stand_in.refuses = "Unsloth: Module = x is not allowed."
    job = job_of(bench)
    with pytest.raises(Exception, match="does not support this adapter") as caught:
        provider.load(on_cuda(job), job.config, ignore)
    assert explain(caught.value).cause == "adapter-unsupported"


@pytest.mark.parametrize(
    ("changed", "head", "message"),
    [
        ({"device": "cpu"}, "causal", "NVIDIA GPU; this run uses the cpu"),
        ({"device": "cuda", "method": "rlhf"}, "causal", "this run uses rlhf"),
        ({"device": "cuda", "method": "kto"}, "causal", "this run uses kto"),
    ],
)
def test_unsupported_runs_are_refused(bench, unsloth, changed, head, message) -> None:
    provider, stand_in = unsloth
    job = job_of(bench)
    with pytest.raises(Exception, match=message):
        provider.load(replace(job.plan, **changed), job.config, ignore, head)
    assert not stand_in.loaded


def test_a_strategy_trains_a_model_that_comes_with_its_adapter(bench, unsloth) -> None:
    """Real TRL and real PEFT on the model that the provider has adapted: no second adapter."""
    from safetensors.torch import load_file

    from modelforge.train.event_log import EventLog
    from modelforge.train.job import WorkerContext
    from modelforge.train.stop import Stop
    from modelforge.train.strategies import sft

    provider, _ = unsloth
    job = job_of(bench)

    def load(head: Any = "causal") -> Any:
        return provider.load(on_cuda(job), job.config, ignore, head)

    with EventWriter(job.run.events) as events:
        sft.run(WorkerContext(job, load, EventLog(events), Stop(job.run.stop)))
    events = read_events(job.run.events)[0]
    assert events[-1].kind == "finished"
    # Unsloth's loss does not count tokens as TRL's does; transformers does it for both.
    steps = [event.data for event in events if event.kind == "step"]
    assert all(
        step["tokens"] > 0 and "num_input_tokens_seen" not in step["metrics"] for step in steps
    )
    saved = load_file(job.run.output / "adapter_model.safetensors")
    assert len(saved) == 2 * len(provider.LAYERS) * 2  # A and B, two layers
    assert any(tensor.abs().max() > 0 for name, tensor in saved.items() if "lora_B" in name)


@pytest.fixture
def witness(tmp_path: Path) -> dict[str, str]:
    """An environment with an `unsloth` that says what was imported before it, and fails."""
    package = tmp_path / "seen" / "unsloth"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(WITNESS, encoding="utf-8")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT)])}


def test_unsloth_is_imported_before_the_libraries_that_it_patches(witness) -> None:
    assert KNOWN["wants_to_be_before"] == ["trl", "transformers", "peft"]
    call = "from modelforge.train import worker; worker.preload('unsloth')"
    done = subprocess.run(
        [sys.executable, "-c", call],
        env=witness,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "came before: []" in done.stdout
    assert "Unsloth cannot be imported: no card for Unsloth." in done.stderr


def test_a_warm_worker_restarts_for_unsloth(bench, witness) -> None:
    run = job_of(bench).run
    worker = subprocess.Popen(
        [sys.executable, "-m", "modelforge.train", "--warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=witness,
        text=True,
    )
    assert worker.stdin
    assert worker.stdout
    try:
        assert json.loads(worker.stdout.readline()) == {"ready": True}
        worker.stdin.write(json.dumps({"run": str(run.path)}) + "\n")
        worker.stdin.flush()
        assert json.loads(worker.stdout.readline()) == {"taken": True}
        assert worker.stdout.read() == ""
        assert worker.wait(timeout=60) == 1
    finally:
        worker.kill()
        worker.communicate()
    assert "came before: []" in run.log.read_text(encoding="utf-8")
    events = read_events(run.events)[0]
    assert [event.kind for event in events].count("started") == 1
    assert events[0].data["pid"] == worker.pid  # the same process, as the supervisor knows it
    assert (events[-1].kind, events[-1].data["cause"]) == ("failed", "provider-broken")
