"""Names of layers that the model does not have, tokens without rows, and weights with NaN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelforge.errors import Finding
from tests.preflight.contexts import STARTER, findings_of, make_context

LAYERS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("up_proj", "down_proj")}
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (49152, 576),
    "model.norm.weight": (576,),
    **{
        f"model.layers.{number}.{block}.{name}.weight": (576, 576)
        for number in range(2)
        for block, names in LAYERS.items()
        for name in names
    },
    "model.layers.0.input_layernorm.weight": (576,),
}
STORED = replace(STARTER, shapes=SHAPES)


def findings(info: Any = STORED, **adapter: str) -> list[Finding]:
    codes = ("layers-unknown", "tokens-without-rows", "weights-not-finite")
    context = make_context(info=info, adapter=adapter)
    return [finding for finding in findings_of(context) if finding.code in codes]


@pytest.mark.parametrize(
    ("adapter", "level", "words", "suggested"),
    [
        ({"target_modules": "c_attn"}, "blocker", "It has: down_proj, embed_tokens", "all-linear"),
        ({"target_modules": "q_pro"}, "blocker", "Closest: q_proj", "all-linear"),
        ({"target_modules": "q_proj, query_key_value"}, "caution", "only q_proj", "q_proj"),
        ({"target_modules": "input_layernorm"}, "blocker", "called input_layernorm", "all-linear"),
        ({"target_modules": "self_attn"}, "blocker", "called self_attn", "all-linear"),
        ({"modules_to_save": "wte"}, "blocker", "called wte", ""),
        ({"modules_to_save": "embed_tokens, wte"}, "caution", "only embed_tokens", "embed_tokens"),
    ],
)
def test_names_that_no_layer_has_are_reported_before_the_start(adapter, level, words, suggested):
    [finding] = findings(**adapter)
    assert (finding.level, finding.code) == (level, "layers-unknown")
    assert finding.where == f"adapter.{next(iter(adapter))}"
    assert words in f"{finding.what} {finding.remedy}"
    assert finding.suggested == suggested


@pytest.mark.parametrize(
    "adapter",
    [
        {"target_modules": "all-linear"},
        {"target_modules": "q_proj, v_proj, lm_head, embed_tokens"},
        {"target_modules": "layers.1.mlp.up_proj"},
        {"modules_to_save": "embed_tokens, lm_head, norm, mlp"},
    ],
)
def test_names_of_layers_are_accepted(adapter):
    assert not findings(**adapter)


def test_without_the_weights_the_names_are_unknown():
    assert not findings(STARTER, target_modules="c_attn")


def test_names_of_experts_are_never_refused():
    [finding] = findings(replace(STORED, experts=8), target_modules="w1")
    assert finding.level == "caution"


@pytest.mark.parametrize(("tokens", "found"), [(49155, True), (49152, False), (None, False)])
def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tokens, found):
    found_now = findings(replace(STORED, tokens=tokens))
    assert bool(found_now) is found
    if found:
        assert found_now[0].level == "blocker"
        assert "49,155 tokens" in found_now[0].what
        assert "49,152 rows" in found_now[0].what


def test_weights_with_nan_are_refused():
    [finding] = findings(replace(STORED, broken_tensor="model.norm.weight"))
    assert (finding.level, finding.code) == ("blocker", "weights-not-finite")
    assert "model.norm.weight" in finding.what
