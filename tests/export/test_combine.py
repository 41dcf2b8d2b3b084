"""Combined adapters are those that PEFT makes on a whole model; what it cannot do is refused."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from modelforge.errors import RunError
from modelforge.export.combine import combine_parts
from modelforge.export.job import AdapterPart
from modelforge.modeling.merging.weights import merge
from tests.export.test_merge import SHAPE

pytestmark = pytest.mark.torch

IDS = torch.arange(5, 60)[None]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base") / "model"
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(folder)
    return folder


@pytest.fixture
def part(base, tmp_path):
    def make(name, weight=1.0, **settings):
        torch.manual_seed(sum(name.encode()))
        model = AutoModelForCausalLM.from_pretrained(base)
        values = {"r": 4, "target_modules": ["q_proj", "down_proj"]} | settings
        tuned = get_peft_model(model, LoraConfig(**values))
        for key, value in tuned.named_parameters():
            if "lora_" in key:
                value.data.add_(torch.randn_like(value) * 0.1)
        tuned.save_pretrained(tmp_path / name, save_embedding_layers=False)
        return AdapterPart(name, name, tmp_path / name, weight)

    return make


@pytest.fixture
def combined(base, tmp_path):
    def combine(parts, combination="linear", **options):
        target = tmp_path / f"combined-{len(list(tmp_path.iterdir()))}"
        target.mkdir()
        combine_parts(base, parts, target, combination, **options)
        return target

    return combine


def logits(base, adapter):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        return model(IDS).logits


def by_peft(base, parts, combination, target, density=None, seed=0):
    """Combine on a whole model, as the documentation of PEFT does."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), parts[0].path)
    names = ["default", *(each.name for each in parts[1:])]
    for each in parts[1:]:
        model.load_adapter(each.path, each.name)
    torch.manual_seed(seed)
    weights = [each.weight for each in parts]
    model.add_weighted_adapter(names, weights, "combined", combination, density=density)
    model.save_pretrained(target, selected_adapters=["combined"], save_embedding_layers=False)
    return target / "combined"


@pytest.mark.parametrize("combination", ["linear", "cat", "ties", "dare_linear", "dare_ties"])
def test_the_weights_are_those_of_peft_on_a_whole_model(
    base, part, combined, combination, tmp_path
):
    parts = [part("one", 0.7), part("two", 0.4)]
    density = None if combination in ("linear", "cat") else 0.5
    options = {} if density is None else {"density": density}
    ours = load_file(combined(parts, combination, **options) / WEIGHTS)
    theirs = load_file(by_peft(base, parts, combination, tmp_path / "peft", density) / WEIGHTS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_weights_one_and_zero_give_the_single_adapter(base, part, combined):
    one = part("one")
    target = combined([one, part("two", 0.0)])
    torch.testing.assert_close(logits(base, target), logits(base, one.path), atol=1e-5, rtol=1e-5)


def test_ties_differs_from_linear(base, part, combined):
    parts = [part("one"), part("two")]
    linear, ties = (combined(parts, how, density=0.5) for how in ("linear", "ties"))
    assert (logits(base, linear) - logits(base, ties)).abs().max() > 1e-3


def test_cat_adds_what_adapters_of_other_ranks_and_layers_do(base, part, combined):
    parts = [part("one", 0.5), part("two", 2.0, r=8, target_modules=["q_proj", "v_proj"])]
    model = AutoModelForCausalLM.from_pretrained(base)
    expected = {key: weight.clone() for key, weight in model.named_parameters()}
    for each in parts:
        whole = AutoModelForCausalLM.from_pretrained(base)
        merged = PeftModel.from_pretrained(whole, each.path).merge_and_unload()
        with torch.no_grad():
            for key, weight in merged.named_parameters():
                change = weight - dict(model.named_parameters())[key]
                expected[key] += each.weight * change
    target = combined(parts, "cat")
    whole = AutoModelForCausalLM.from_pretrained(base)
    ours = PeftModel.from_pretrained(whole, target).merge_and_unload()
    for key, weight in ours.named_parameters():
        torch.testing.assert_close(weight, expected[key], atol=1e-5, rtol=1e-5)


def test_stacking_over_a_16_bit_base_rounds_nothing(part, combined, base, tmp_path):
    one, two = part("one", 0.3), part("two")
    model = AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "bf16")
    target = tmp_path / "stacked"
    target.mkdir()
    combine_parts(tmp_path / "bf16", [one, two], target, "cat")
    single, stacked = load_file(one.path / WEIGHTS), load_file(target / WEIGHTS)
    for key, weight in single.items():
        if "lora_A" in key:
            assert torch.equal(stacked[key][:4], weight * 0.3 * (8 / 4))


def test_the_scale_of_rslora_is_kept(base, part, combined):
    one = part("one", use_rslora=True)
    target = combined([one, part("two", 0.0, use_rslora=True)])
    torch.testing.assert_close(logits(base, target), logits(base, one.path), atol=1e-5, rtol=1e-5)


def test_dare_draws_the_same_values_each_time(part, combined):
    parts = [part("one"), part("two")]
    first, again = (load_file(combined(parts, "dare_ties") / WEIGHTS) for _ in range(2))
    other = load_file(combined(parts, "dare_ties", seed=1) / WEIGHTS)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_combined_adapter_is_merged_like_a_single_one(base, part, combined, tmp_path):
    target = combined([part("one", 0.5), part("two", 0.5)], "ties", density=0.5)
    (tmp_path / "merged").mkdir()
    merge(base, target, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        difference = (merged(IDS).logits - logits(base, target)).abs().max()
    assert difference < 1e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "whole layers"),
        ({"rank_pattern": {"q_proj": 2}}, "ranks that differ"),
        ({"layers_to_transform": [0]}, "layers_to_transform differs"),
        ({"target_modules": ".*q_proj"}, "by a pattern"),
        ({"r": 8}, "needs adapters of one rank"),
    ],
)
def test_what_cannot_be_combined_is_refused(part, combined, settings, words):
    with pytest.raises(RunError, match=words) as caught:
        combined([part("one"), part("two", **settings)])
    assert all(problem.remedy for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("weight", "options", "words"),
    [
        (float("nan"), {}, "is nan"),
        (1.0, {"combination": "ties", "density": 0.0}, "not a share"),
        (1.0, {"combination": "ties", "density": 1.5}, "not a share"),
    ],
)
def test_wrong_numbers_are_refused(part, combined, weight, options, words):
    with pytest.raises(RunError, match=words):
        combined([part("one", weight), part("two")], **options)


def test_the_adapter_of_another_model_is_refused(part, combined):
    one, two = part("one"), part("two")
    path = two.path / "adapter_config.json"
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(values | {"base_model_name_or_path": "/models/other"}), "utf-8")
    with pytest.raises(RunError, match="was trained on other"):
        combined([one, two])
