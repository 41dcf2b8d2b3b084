"""What the browser has chosen, and the formats and adapters that are offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.errors import Problem
from modelforge.runs.exports import ExportRequest
from modelforge.services.exports import Prediction
from tests.runs.homes import put_run
from tests.ui.pages.export.views import PASSED, export
from ui.pages.export import choice
from ui.pages.export.choice import Predicted

NEEDS = Predicted(Prediction("x", "cpu", 2**30, 2**31, 2**30, 75.0, 2**40))
NOT_POSSIBLE = Predicted(None, [Problem("format", "It has <no> adapter.", "Use `merged`.")])


@pytest.mark.parametrize(
    "request_",
    [None, [], {"run": 5, "format": "exe", "quantization": None, "adapters": 7, "weight": "x"},
     {"adapters": [None, ["a"], ["a", "x"], [1, 2], ["a", 1e400], ["a", True], ["a", 2**70]]},
     {"density": float("nan"), "weight": 10**400, "private": "no", "repository": 3}],
)  # fmt: skip
def test_values_of_a_wrong_kind_become_the_defaults(request_):
    assert choice.read_choice(request_) == ExportRequest("", "gguf")


def test_the_choice_of_the_browser_is_read():
    sent = {"run": "a", "format": "hub", "content": "gguf", "quantization": "q8_0"}
    sent |= {"repository": " me/it ", "private": False, "combination": "ties", "density": 0.2}
    sent |= {"adapters": [["b", 2]], "weight": 0.5}
    assert choice.read_choice(sent) == ExportRequest(
        "a", "hub", "q8_0", "gguf", "me/it", False, (("b", 2.0),), 0.5, "ties", 0.2
    )


def test_a_precision_stays_only_with_merged_weights():
    sent = {"run": "a", "format": "merged", "precision": "float32"}
    assert choice.read_choice(sent).precision == "float32"
    for format in ("gguf", "adapter", "ollama"):
        assert choice.read_choice({**sent, "format": format}).precision == "base"
    assert choice.read_choice({**sent, "format": "hub", "content": "merged"}).precision == "float32"


def test_a_format_that_is_not_possible_says_why_and_another_one_is_chosen():
    predicted = dict.fromkeys(choice.FORMATS, NEEDS) | {"adapter": NOT_POSSIBLE}
    drawn = choice.format_tiles(predicted, "base", is_whole=True)
    assert drawn.count('class="choice off"') == 1
    assert "It has &lt;no&gt; adapter. Use <code>merged</code>." in drawn
    assert "1.0 GiB" in drawn
    assert "1 min 15 s" in drawn
    chosen = ExportRequest("a", "adapter")
    assert choice.usable_choice(chosen, predicted).format == "merged"
    assert choice.usable_choice(replace(chosen, format="mlx"), predicted).format == "mlx"
    nothing = dict.fromkeys(choice.FORMATS, NOT_POSSIBLE)
    # What holds for every format is shown once, and the tiles stay as they are.
    drawn = choice.format_tiles(nothing, "base", is_whole=False)
    assert drawn.count("It has &lt;no&gt; adapter.") == 1
    assert "disabled" not in drawn
    assert choice.usable_choice(chosen, nothing) == chosen


def test_merged_weights_are_named_with_their_precision():
    predicted = dict.fromkeys(choice.FORMATS, NEEDS)
    assert "Merged model, 16-bit" in choice.format_tiles(predicted, "base", is_whole=False)
    drawn = choice.format_tiles(predicted, "float32", is_whole=False)
    assert "Merged model, 32-bit" in drawn
    assert "16-bit" not in drawn
    merged = export(format="merged", quantization="")
    assert choice.title(merged) == "Merged model, 16-bit"
    assert choice.title(replace(merged, precision="float32")) == "Merged model, 32-bit"


def test_an_upload_is_predicted_before_its_repository_is_named(monkeypatch):
    refused = Predicted(None, [Problem("repository", "No repository is named.", "Write one.")])
    monkeypatch.setattr(
        choice, "predict", lambda _forge, asked: NEEDS if asked.repository else refused
    )
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    predicted = choice.predict_chosen(None, ExportRequest("a", "hub"))
    assert predicted == Predicted(NEEDS.prediction, refused.problems)


def test_an_upload_without_a_token_cannot_be_started(monkeypatch):
    hub = ExportRequest("a", "hub", repository="me/it")
    monkeypatch.setattr(choice, "predict", lambda _forge, _request: NEEDS)
    predicted = choice.predict_chosen(None, hub)
    assert predicted.prediction == NEEDS.prediction
    assert predicted.reason.startswith("There is no token for the Hugging Face Hub. Run `hf auth")
    assert "There is no token" in choice.token_note(hub)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert choice.predict_chosen(None, hub) == NEEDS
    assert "needs write access" in choice.token_note(hub)
    assert choice.token_note(ExportRequest("a", "gguf")) == ""


def test_a_quantization_shows_only_a_perplexity_that_was_measured():
    measured = PASSED | {"perplexity": 10.24, "trained_perplexity": 10.0}
    assert choice.perplexity_change(measured) == "+2.4 %"
    assert choice.perplexity_change(measured | {"perplexity": 10.001}) == "same"
    assert choice.perplexity_change(PASSED) == ""
    views = [export("failed", self_test=measured), export(self_test=measured)]
    assert choice._measured("q4_k_m", views) == "+2.4 %"
    assert choice._measured("q4_k_m", views[:1]) == choice._measured("q8_0", views) == ""


def test_only_runs_of_the_same_base_can_be_combined(forge):
    for number, model in ((1, "me/base"), (2, "me/base"), (3, "me/other")):
        put_run(forge.home.root, number, model_name=model)
    runs = forge.runs.views()
    mine = next(run for run in runs if run.id.endswith("1"))
    drawn = choice.other_adapters(mine, runs)
    assert [run.id for run in runs if f'data-combine="{run.id}"' in drawn] == [
        run.id for run in runs if run.id.endswith("2")
    ]
    assert choice.other_adapters(mine, [mine]) == ""


def test_the_selected_run_has_a_tile_however_old_it_is(forge):
    for number in range(5):
        put_run(forge.home.root, number)
    runs = forge.runs.views()
    tiled = choice.tiled_runs(runs, runs[-1].id)
    assert [run.id for run in tiled] == [runs[-1].id, runs[0].id, runs[1].id]
    assert choice.tiled_runs(runs, runs[1].id) == runs[:3]
