"""The catalog: every model of a profile fits the GPU it is meant for, by estimate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.profiles import load_profiles, profile_settings, recommended_models
from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.config.visibility import inapplicable_settings
from modelforge.hardware.nvidia import Gpu
from modelforge.models.architecture import catalog_model_info, parameters_by_shape
from modelforge.preflight.memory.estimate import estimate_memory, total_gib
from modelforge.preflight.suggest.catalog_fit import estimate_fit, estimate_fit_by_size
from tests.preflight.contexts import LAPTOP

TASKS = ("text-generation", "summarization", "extractive-question-answering")
# The usual card of each class, and the smallest that its first choice must fit.
USUAL = {"low_end": 6.0, "mid_range": 12.0, "high_end": 16.0}
SMALLEST = {"low_end": 6.0, "mid_range": 8.0, "high_end": 16.0}
# Memory that a desktop uses of the GPU.
DESKTOP_GIB = 0.6


def with_card(gib):
    card = Gpu(0, "a card", gib, gib - DESKTOP_GIB, 0.2, (8, 6), "570.1")
    return replace(LAPTOP, ram_total_gib=32.0, ram_free_gib=24.0, gpus=[card])


def layers(profile, task, model, *, practice=False):
    answers = flatten(profile_settings(profile, practice=practice) | {"task": task})
    off = inapplicable_settings(answers)
    answers = {name: value for name, value in answers.items() if name not in off}
    return Layer("profile", answers), Layer("model", model["answers"])


OFFERED = [
    (profile, task, model)
    for profile in USUAL
    for task in TASKS
    for model in recommended_models(profile, task=task)
]


def _id(value):
    return value["name"] if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("profile", "task", "model"), OFFERED, ids=_id)
def test_every_model_fits_the_usual_gpu_of_its_profile(profile, task, model):
    found = estimate_fit(model, with_card(USUAL[profile]), *layers(profile, task, model))
    assert found.fits, f"{model['name']} needs {found.gib:.1f} of {found.free_gib:.1f} GiB"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("profile", USUAL)
def test_the_first_choice_fits_the_smallest_gpu_of_its_profile(profile, task):
    first = recommended_models(profile, task=task)[0]
    assert estimate_fit(first, with_card(SMALLEST[profile]), *layers(profile, task, first)).fits


@pytest.mark.parametrize("task", TASKS)
def test_without_a_gpu_the_starter_is_first_and_all_are_small(task):
    offered = recommended_models("low_end", practice=True, task=task)
    assert offered[0]["name"] == "starter"
    for model in offered:
        found = estimate_fit(model, LAPTOP, *layers("low_end", task, model, practice=True))
        assert found.fits, f"{model['name']} needs {found.gib:.1f} GiB"


def test_a_task_is_offered_models_of_suitable_kinds():
    kinds = {"text-generation": {"decoder"}, "summarization": {"decoder", "encoder-decoder"},
             "extractive-question-answering": {"decoder", "encoder"}}  # fmt: skip
    for task, allowed in kinds.items():
        found = {catalog_model_info(model).kind for _, asked, model in OFFERED if asked == task}
        assert found == allowed, task


@pytest.mark.parametrize("profile", USUAL)
def test_a_decoder_has_about_the_parameters_of_its_shape(profile):
    for model in load_profiles()[profile].models:
        facts = catalog_model_info(model)
        if facts.kind != "decoder":
            continue
        shape = {**facts.__dict__}
        assert parameters_by_shape(shape) == pytest.approx(facts.parameters, rel=0.02), facts.name


def test_a_model_has_title_licence_and_note():
    for profile in load_profiles().values():
        names = [model["name"] for model in profile.models]
        assert len(names) == len(set(names))
        for model in profile.models:
            assert model["title"]
            assert model["licence"]
            assert model["note"].endswith(".")
            assert set(model["tasks"]) <= set(TASKS)
            assert isinstance(model["gated"], bool)
            # A note mentions a licence that must be accepted first.
            assert model["gated"] == ("accepted on the Hub" in model["note"])


def test_the_values_of_a_model_are_existing_settings():
    for profile, task, model in OFFERED:
        rest = Layer("rest", {"model_name": model["name"], "dataset": "sample:captain"})
        config = resolve(*layers(profile, task, model), rest).config
        plan = make_plan(config, PlanContext(device="cuda", model_path=model["name"]))
        assert total_gib(estimate_memory(config, plan, catalog_model_info(model), plan.max_length))


def test_wrong_settings_leave_the_fit_unknown():
    model = recommended_models("low_end")[0]
    assert estimate_fit(model, LAPTOP, Layer("form", {"lora_r": "many"})).fits is None


@pytest.mark.parametrize("profile", USUAL)
def test_a_model_of_known_size_alone_is_estimated_about_right(profile):
    machine = with_card(24.0)
    for model in load_profiles()[profile].models:
        if "text-generation" not in model["tasks"]:
            continue
        stack = layers(profile, "text-generation", model)
        by_shape = estimate_fit(model, machine, *stack)
        by_size = estimate_fit_by_size(model["parameters"] * 1.05, machine, *stack)
        assert by_size.gib == pytest.approx(by_shape.gib, rel=0.35), model["name"]
        assert by_size.free_gib == by_shape.free_gib


def test_a_model_of_unknown_size_is_not_estimated():
    assert estimate_fit_by_size(None, LAPTOP).gib is None
    assert estimate_fit_by_size(1.0, LAPTOP, Layer("form", {"lora_r": "many"})).gib is None
