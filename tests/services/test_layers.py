"""Layers of a form with an opened recipe: what gives way when another method is chosen."""

import json
from itertools import product

import pytest

from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.layers import RECIPE, FormInput
from tests.models.folders import SMALL_LLAMA
from tests.preflight.contexts import LAPTOP, WORKSTATION

# Settings of the form that lead to each method, with some that only this method has.
METHODS = {
    "sft": {"strategy": "sft", "packing": True, "data.truncation_strategy": "split"},
    "sft on all weights": {"strategy": "sft", "adapter.enabled": False, "data.loss_on": "all"},
    "sft on 8-bit weights": {"strategy": "sft", "quantization.scheme": "bnb-8bit"},
    "sft from an adapter": {"strategy": "sft", "adapter.start_from": "a-run"},
    "sft by unsloth": {"strategy": "sft", "provider": "unsloth"},
    "qlora": {"strategy": "qlora", "trainer.neftune_noise_alpha": 5.0},
    "dpo": {"strategy": "dpo", "trainer.precompute_ref_log_probs": True},
    "kto": {"strategy": "dpo", "trainer.preference_loss": "kto"},
    "orpo": {"strategy": "dpo", "trainer.preference_loss": "orpo", "trainer.preference_beta": 0.3},
    "rlhf": {"strategy": "rlhf", "trainer.reward": "regex", "trainer.reward_pattern": "a"},
    "rlhf with a reward model": {"strategy": "rlhf", "trainer.reward_epochs": 2},
    "summarization": {"strategy": "sft", "task": "summarization"},
    "question answering": {"strategy": "sft", "task": "extractive-question-answering"},
}
DATA = {"dataset": "rows.jsonl", "model_name": "starter"}
CHOICES = ("task", "strategy", "provider")


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    made = Forge(Home(tmp_path_factory.mktemp("home")), warm_worker=["true"])
    yield made
    made.close()


def recipe_of(forge, method):
    """Return the settings that a run of a method keeps."""
    stack = forge.layers.stack(FormInput(values=DATA | METHODS[method]))
    return resolve(*stack.layers).config.explicit_values()


def choice_of(method):
    usual = {"task": "text-generation", "provider": "huggingface"}
    return {name: (usual | METHODS[method])[name] for name in CHOICES}


@pytest.mark.parametrize(("old", "new"), list(product(METHODS, METHODS)))
def test_a_recipe_never_locks_the_choice_of_another_method(forge, old, new):
    recipe = recipe_of(forge, old)
    stack = forge.layers.stack(FormInput(values=choice_of(new), recipe=recipe))
    config = resolve(*stack.layers).config
    assert {name: str(getattr(config, name)) for name in CHOICES} == choice_of(new)
    # What does not give way is used as the recipe has it.
    [kept] = [flatten(layer.values) for layer in stack.layers if layer.name == RECIPE]
    given = flatten(recipe)
    assert given.keys() - kept.keys() == stack.overridden
    assert all(kept[name] == given[name] for name in kept)
    if choice_of(old) == choice_of(new):
        assert not stack.overridden
    elif METHODS[old]["strategy"] != METHODS[new]["strategy"]:
        # The learning rate and the bits of the weights are those of a fresh form.
        adapter = {"adapter.enabled": config.adapter.enabled}
        fresh = forge.layers.stack(FormInput(values=DATA | choice_of(new) | adapter))
        assert "learning_rate" in stack.overridden
        for name in ("learning_rate", "use_4bit"):
            assert stack.texts[name] == fresh.texts[name] or name not in stack.overridden


def test_the_recipe_is_whole_again_when_its_method_is_chosen_again(forge):
    recipe = recipe_of(forge, "sft")
    values = {"strategy": "dpo"}
    assert forge.layers.stack(FormInput(values=values, recipe=recipe)).overridden
    back = forge.layers.stack(FormInput(values={"strategy": "sft"}, recipe=recipe))
    assert not back.overridden
    assert resolve(*back.layers).config.explicit_values() == recipe


def test_errors_of_the_recipe_itself_stay(forge):
    recipe = DATA | {"strategy": "dpo", "packing": True, "task": "text-generation"}
    changed = forge.layers.stack(FormInput(values={"lora_r": "8"}, recipe=recipe))
    assert not changed.overridden
    assert "packing" in {name for layer in changed.layers for name in layer.values}


def test_a_value_of_the_user_is_never_dropped(forge):
    recipe = recipe_of(forge, "sft")
    values = {"strategy": "dpo", "learning_rate": "0.001", "data.truncation_strategy": "split"}
    stack = forge.layers.stack(FormInput(values=values, recipe=recipe))
    assert stack.texts["learning_rate"] == "0.001"
    assert not stack.overridden & values.keys()


@pytest.fixture(scope="module")
def with_gpu(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    made = Forge(home, warm_worker=["true"], probe=lambda _root: WORKSTATION)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the shape of a model, which is in no catalog."""
    made = tmp_path_factory.mktemp("model")
    (made / "config.json").write_text(json.dumps(SMALL_LLAMA), "utf-8")
    return str(made)


@pytest.mark.parametrize("origin", ["form", "recipe"])
@pytest.mark.parametrize(("device", "is_gpu"), [("auto", True), ("cuda", True), ("cpu", False)])
def test_another_device_than_the_gpu_needs_no_four_bit_weights(
    with_gpu, folder, origin, device, is_gpu
):
    """Neither the profile nor the recommended settings of a model choose them for it."""
    chosen = {"hardware.device": device, "dataset": "sample:captain"}
    recipe, values = (chosen, {}) if origin == "recipe" else ({}, chosen)
    for model in (folder, "Qwen/Qwen3-8B"):
        form = FormInput("mid_range", values | {"model_name": model}, recipe)
        assert with_gpu.layers.stack(form).texts["use_4bit"] == str(is_gpu).lower()
    stack = with_gpu.layers.stack(FormInput("mid_range", values | {"model_name": folder}, recipe))
    plan = with_gpu.preflight.check(*stack.layers).plan
    assert plan.quantization == ("4-bit" if is_gpu else "none")
    assert stack.practice is not is_gpu
    # Models and learning rate are those of a computer without a GPU, too.
    rated = with_gpu.layers.rate_models(FormInput("mid_range", values, recipe), stack)
    assert (rated[0].model["name"] == "starter") is not is_gpu
    assert stack.texts["learning_rate"] == ("0.0002" if is_gpu else "0.0005")


@pytest.mark.parametrize("own", [{"strategy": "qlora"}, {"use_4bit": "true"}])
def test_four_bit_weights_that_are_chosen_stay_on_the_cpu_and_are_called_slow(
    with_gpu, folder, own
):
    values = {"hardware.device": "cpu", "dataset": "sample:captain", "model_name": folder}
    stack = with_gpu.layers.stack(FormInput("mid_range", values | own))
    checked = with_gpu.preflight.check(*stack.layers)
    assert checked.plan.quantization == "4-bit"
    assert "quantized-slow" in {finding.code for finding in checked.report.findings}


DESK = """title = "My desk"
min_vram_gib = 0
[settings]
lora_r = 24
lora_alpha = 48
max_seq_length = 96
"""


def test_a_file_in_the_home_is_a_profile_everywhere_without_a_change_of_python(tmp_path):
    home, model = Home(tmp_path / "home"), tmp_path / "model"
    for folder in (home.profiles, model):
        folder.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(SMALL_LLAMA), "utf-8")
    forge = Forge(home, warm_worker=["true"], probe=lambda _root: LAPTOP)
    data = {"model_name": str(model), "dataset": "sample:captain"}
    recipe = Layer(RECIPE, data | {"task": "text-generation", "compute_specs": "desk"})
    [problem] = forge.preflight.check(recipe, Layer("you", {"use_4bit": False})).problems[:1]
    assert problem.what == "'desk' is not one of the choices."
    assert problem.remedy.startswith("Choose low_end, mid_range or high_end.")

    (home.profiles / "desk.toml").write_text(DESK, "utf-8")
    assert (forge.layers.prefill().profile, forge.layers.prefill().title) == ("desk", "My desk")
    stack = forge.layers.stack(FormInput(values=data))
    assert stack.profile == "desk"
    checked = forge.preflight.check(*stack.layers)
    assert (checked.plan.lora_alpha, checked.plan.max_length) == (48, 96)
    assert checked.resolved.origins["lora_r"] == "desk"
    assert checked.resolved.config.use_4bit is False, "there is no GPU"
    # A recipe that leaves the length empty has that of the profile, as with a shipped one.
    checked = forge.preflight.check(recipe, Layer("you", {"max_seq_length": None}))
    assert checked.plan.max_length == 96
    chosen = forge.layers.stack(FormInput(profile="low_end", values=data))
    assert chosen.profile == "low_end"

    (home.profiles / "broken.toml").write_text(DESK + "lora_rank = 4\n", "utf-8")
    [finding] = [
        found
        for found in forge.preflight.check(*stack.layers).report.findings
        if found.code == "profile-file"
    ]
    assert "broken.toml, line 7, settings.lora_rank is not a setting." in finding.what
    assert str(home.profiles) in finding.remedy
    assert "desk" in forge.layers.profiles()
