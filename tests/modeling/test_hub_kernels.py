"""Attention kernels of the Hub: only with consent, and never by themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.preflight.checks.model import hub_kernel
from tests.preflight.contexts import WORKSTATION, make_context

KERNEL = "kernels-community/flash-attn2"
REQUIRED = {"task": "text-generation", "model_name": "tiny", "dataset": "rows.jsonl"}
REQUIRED |= {"compute_specs": "low_end", "use_4bit": False}
ALLOWED = {"attn_implementation": KERNEL, "allow_hub_kernels": True}


def plan_of(device="cuda", capability=(8, 6), **settings):
    config = TrainingConfig(**REQUIRED, model=ALLOWED, **settings)
    return make_plan(config, PlanContext(device, "tiny", compute_capability=capability))


def test_a_kernel_of_the_hub_is_used_only_where_it_is_allowed():
    with pytest.raises(ValueError, match="native code that would be downloaded"):
        TrainingConfig(**REQUIRED, model={"attn_implementation": KERNEL})
    assert plan_of().attn_implementation == KERNEL


@pytest.mark.parametrize("kernel", ["acme/attention@v1", "acme/attention:forward"])
def test_a_kernel_may_have_a_revision_or_a_function(kernel):
    model = {"attn_implementation": kernel, "allow_hub_kernels": True}
    assert TrainingConfig(**REQUIRED, model=model).model.attn_implementation == kernel


@pytest.mark.parametrize("kernel", ["../kernel", "a/b/c", "acme/", "sdpaa", "acme/x y"])
def test_other_names_are_no_attention(kernel):
    model = {"attn_implementation": kernel, "allow_hub_kernels": True}
    with pytest.raises(ValueError, match=r"model\.attn_implementation"):
        TrainingConfig(**REQUIRED, model=model)


@pytest.mark.parametrize(
    ("device", "settings", "reason"),
    [("cpu", {}, "need an NVIDIA GPU"), ("cuda", {"hardware": {"precision": "fp32"}}, "16-bit")],
)
def test_where_it_cannot_run_sdpa_is_used_and_said(device, settings, reason):
    plan = plan_of(device, **settings)
    (change,) = [each for each in plan.changes if each.where == "model.attn_implementation"]
    assert plan.attn_implementation == change.used == "sdpa"
    assert reason in change.reason


def findings(packages, monkeypatch, offline=""):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    machine = replace(WORKSTATION, packages=packages)
    return list(hub_kernel(make_context(machine, model=ALLOWED, bf16=True)))


def test_what_cannot_be_downloaded_is_refused_before_the_start(monkeypatch):
    assert findings(("kernels",), monkeypatch) == []
    (missing,) = findings((), monkeypatch)
    (offline,) = findings(("kernels",), monkeypatch, "1")
    assert "not installed" in missing.what
    assert "HF_HUB_OFFLINE" in offline.what
    assert missing.level == offline.level == "blocker"


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_transformers_gets_the_name_and_the_consent(tiny_model, monkeypatch):
    from modelforge.modeling.providers import huggingface

    class Recorder:
        @staticmethod
        def from_pretrained(_path, **arguments):
            seen.append(arguments)

    seen = []
    monkeypatch.setitem(huggingface.AUTO_CLASSES, "causal", Recorder)
    monkeypatch.setattr(huggingface.quantization, "model_facts", lambda *_: None)
    for attention in (KERNEL, "sdpa"):
        plan = replace(plan_of("cpu"), model_path=str(tiny_model), attn_implementation=attention)
        huggingface.load_weights(plan, TrainingConfig(**REQUIRED), "causal")
    assert [each["attn_implementation"] for each in seen] == [KERNEL, "sdpa"]
    assert [each.get("allow_all_kernels") for each in seen] == [True, None]


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_without_the_package_transformers_refuses_it(tiny_model):
    from modelforge.modeling.errors import WorkerError
    from modelforge.modeling.providers.huggingface import load

    plan = replace(plan_of("cpu"), model_path=str(tiny_model), attn_implementation=KERNEL)
    with pytest.raises(WorkerError) as refused:
        load(plan, TrainingConfig(**REQUIRED), lambda _done, _total: None)
    assert refused.value.cause == "package-missing"
    assert "kernels" in str(refused.value)


def test_chat_and_evaluation_use_the_attention_of_torch():
    assert plan_of().local_attention == "sdpa"
    assert replace(plan_of(), attn_implementation="eager").local_attention == "eager"


def test_libraries_cannot_load_kernels_by_themselves(tmp_path):
    (tmp_path / "kernels.py").write_text("print('loaded')\n", "utf-8")
    code = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "blocked":
    from modelforge.modeling.hub_kernels import block_hub_kernels
    block_hub_kernels()
assert (importlib.util.find_spec("kernels") is None) == (sys.argv[2] == "blocked")
try:
    import kernels
except ImportError:
    print("refused")
"""
    shown = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), how],
            check=True, capture_output=True, text=True,
        ).stdout.strip()
        for how in ("blocked", "free")
    ]  # fmt: skip
    assert shown == ["refused", "loaded"]
