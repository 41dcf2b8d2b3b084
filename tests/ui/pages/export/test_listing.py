"""Exports in progress and over, as they are drawn."""

from __future__ import annotations

import pytest

from modelforge.errors import Problem
from modelforge.runs.jobs import JobStep
from tests.runs.homes import put_export, put_run
from tests.ui.pages.export.views import PASSED, export
from ui.pages.export import listing

MERGE = JobStep("merge", "Merging the adapter", 1.0, 20.0)
WRITE = JobStep("write", "Write <b>", 0.5, 10.0)


def test_an_export_in_progress_shows_its_steps_and_those_that_wait_come_after_it():
    running = export("running", id="1", steps=(MERGE, WRITE), seconds_left=30.0)
    waiting = export("queued", id="2", queued_behind="Another export comes <first>.")
    drawn = listing.in_progress([export(), waiting, running])
    assert drawn.index("Exporting: GGUF Q4_K_M") < drawn.index("Waiting: GGUF Q4_K_M")
    assert "Write &lt;b&gt;" in drawn
    assert "comes &lt;first&gt;." in drawn
    assert 'aria-valuenow="50"' in drawn
    late = export("running", steps=(MERGE,), seconds_left=0.0)
    assert "longer than predicted" in listing.in_progress([late])
    assert "Self-test: 20 prompts" in drawn
    assert listing.status([waiting, running]) == "Exporting GGUF Q4_K_M of captain: Write <b>."
    assert listing.in_progress([export()]) == listing.status([export()]) == ""


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (export(), ["Same answers on 19 of 20 prompts", "KL 0.012", "Stops where it should"]),
        (
            export(self_test=PASSED | {"kl": None, "max_logit_difference": 2e-5, "rounding": 0.31}),
            ["Same answers on 19 of 20 prompts", "Logits differ by up to 2e-05",
             "Rounding to 16 bits moves logits by up to 0.3", "Stops where it should"],
        ),
        (
            export(self_test=PASSED | {"kl": None, "max_logit_difference": 0.0}),
            ["Same answers on 19 of 20 prompts", "Logits are equal", "Stops where it should"],
        ),
        (
            export("failed", path="/x", self_test={"cause": "end token"}),
            ["Marked failed: end token; not usable"],
        ),
        (export("failed"), ["Failed; nothing was kept"]),
        (export("stopped"), ["Stopped; nothing was kept"]),
        (export("lost"), ["Ended unexpectedly; nothing was kept"]),
    ],
)  # fmt: skip
def test_the_result_of_a_self_test_in_a_few_words(view, expected):
    assert [text for text, _ in listing.chips(view)] == expected


def test_a_caution_of_the_self_test_stands_at_a_usable_export(forge):
    test = PASSED | {"caution": "Rounding changes 13 of 20 texts <b>. Use `float32`."}
    drawn = listing.over(forge, [export(self_test=test)], "")
    assert "Rounding changes 13 of 20 texts &lt;b&gt;. Use <code>float32</code>." in drawn
    assert "Caution" not in listing.over(forge, [export(self_test=PASSED)], "")
    assert "Caution" not in listing.over(forge, [export("failed", self_test=test)], "")


def test_an_upload_that_failed_can_be_repeated_without_the_export(forge):
    run = put_run(forge.home.root, 1)
    more = {"format": "hub", "repository": "me/it", "private": False, "self_test": PASSED}
    put_export(forge.home.root, run, 1, state="failed", **more)
    put_export(forge.home.root, run, 2, state="failed", **more | {"self_test": {"cause": "x"}})
    refused, not_uploaded = (listing.over(forge, [view], "") for view in forge.exports.list())
    assert 'data-action="export-push"' in not_uploaded
    assert 'data-repository="me/it" data-public="yes"' in not_uploaded
    assert 'data-action="export-push"' not in refused


def test_only_a_difference_that_is_hard_to_notice_is_called_good():
    tones = [dict(listing.chips(export(self_test=PASSED | {"kl": kl}))) for kl in (0.049, 0.06)]
    assert [tones[0]["KL 0.049"], tones[1]["KL 0.060"]] == ["good", ""]


def test_a_failed_export_says_why_and_is_not_offered_for_use(forge):
    test = {"cause": "template", "details": ["It renders <|im_start|>."]}
    problem = Problem("self-test", "It renders <|im_start|>.", "Export again.")
    view = export("failed", path="/x", self_test=test, problem=problem, run_name="<b>")
    drawn = listing.over(forge, [view], "")
    assert "<b>Cause:</b> It renders &lt;|im_start|&gt;. <b>Remedy:</b> Export again." in drawn
    assert "&lt;b&gt;" in drawn
    assert 'data-action="export-again"' in drawn
    assert "Download it as not usable" in drawn
    assert ">Download</a>" not in drawn
    assert 'data-action="serve-export"' not in drawn


def test_a_finished_export_is_downloaded_used_and_served(forge):
    drawn = listing.over(forge, [export()], "")
    assert f'href="/api/exports/{export().id}/download"' in drawn
    assert "llama-server -m &#39;/exports/a b/files/captain-Q4_K_M.gguf&#39;" in drawn
    assert 'data-action="serve-export"' in drawn
    served = listing.over(forge, [export()], export().id)
    assert "serving now" in served
    assert 'data-action="serve-stop"' in served
    assert 'data-action="export-delete"' not in served


def test_each_format_is_used_in_its_own_way(forge):
    ollama = export(format="ollama", address="ollama run captain")
    assert listing.usage(forge, ollama).text == "ollama run captain"
    command = listing.usage(forge, export(format="ollama")).text
    assert command == "ollama create captain -f '/exports/a b/files/Modelfile'"
    mlx = export(format="mlx", quantization="", files=(), path="/m")
    assert listing.usage(forge, mlx).text == "mlx_lm.chat --model /m"
    merged = export(format="merged", quantization="", files=(), path="/m")
    assert listing.usage(forge, merged).text.endswith(
        "AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained('/m')"
    )
    assert "AutoModelForQuestionAnswering" in listing.load_code("span", "/m", is_whole=True)
    assert "AutoPeftModelForSeq2SeqLM" in listing.load_code("seq2seq", "/m", is_whole=False)
