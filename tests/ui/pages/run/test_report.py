"""The report of an evaluation as cards: every part, gaps, and foreign text."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ui.pages.run.reports import GAPS, METRICS, REPORT, foreign, prompt_does, report, too_few
from ui.pages.run import report as cards
from ui.pages.run import report_metrics as metrics

PAYLOAD = "<img src=x onerror=alert(1)>"


def shown(made: dict[str, Any]) -> str:
    return str(cards.cards(made, "run-1", 410))


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_verdict_says_what_it_rests_on():
    text = text_of(shown(report()))
    assert "Better than the base model and than a prompt with 5 examples." in text
    assert "102 evaluation rows. Against the prompt: 81 better, 14 worse, 7 equal" in text
    assert "by chance, less than once in 1,000" in text
    assert "Do you need this run? Yes. Five examples" in text
    assert "Loss on right answers 1.71 → 0.83, with exchanged answers 2.40 → 2.31" in text
    assert "no difference</text>" not in shown(report())


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (None, "7 equal."),
        (0.0009, "less than once in 1,000."),
        (0.02, "by chance, about once in 50."),
        (0.9, "by chance, more often than not."),
    ],
)
def test_how_often_chance_gives_such_a_difference(p, text):
    against = {"better": 1, "worse": 2, "equal": 7, "p": p}
    assert text in text_of(shown(report(against_prompt=against)))


def test_too_few_rows_offer_to_hold_out_more():
    html = shown(too_few())
    assert "With a difference of this size, about 60 rows would settle it." in html
    assert "Hold out 60 rows next time" in html
    assert "Difference in Perplexity: minus 0.40, 95 % interval minus 1.30 to 0.50" in html


@pytest.mark.parametrize(("needed", "all_rows"), [(None, 410), (206, 410), (60, 0), (0, 410)])
def test_nothing_is_held_out_where_the_data_is_too_small(needed, all_rows):
    assert cards.hold_out(needed, all_rows) is None


def test_a_prompt_that_does_as_well_can_be_copied():
    html = shown(prompt_does())
    assert 'data-from="need-prompt"' in html
    assert "Question: Where is my parcel?" in html
    assert "/chat?run=run-1" in html
    assert "Copy the prompt" not in shown(report())


def test_each_contestant_has_its_value_and_interval():
    html = shown(report())
    assert 'aria-label="Tuned model: 2.29, 95 % interval 2.15–2.45"' in html
    assert 'aria-label="Base + 5 examples: 6 %, 95 % interval 3–12 %"' in html
    assert html.count('<table class="dots">') == len(METRICS)
    assert "Three contestants, the same 102 rows" in html


def test_a_contestant_without_a_value_is_left_out():
    made = report()
    for metric in made["metrics"]:
        metric["contestants"]["prompted"] = None
        metric["contestants"]["base"]["interval"] = None
    html = shown(made)
    assert "Two contestants" in html
    assert "Base + 5 examples" not in text_of(html).split("Answers side by side")[0]
    assert 'aria-label="Base model: 5.53"' in html


def test_what_is_forgotten_is_flagged_with_a_way_back():
    html = shown(report())
    assert "17 → 9" in html
    assert html.count("no clear change") == 4
    assert "Adding 62 general rows to the next run (13 % of its data)" in html
    assert 'data-action="mix-general"' in html
    assert "Show the 8 lost answers" in html
    assert "a JSON list of three texts" in html
    none = copy.deepcopy(REPORT["forgetting"]) | {"mix": None, "lost": []}
    mild = shown(report(forgetting=none))
    assert "mix-general" not in mild
    assert "lost answer" not in mild


def test_rows_lead_to_the_data_page():
    html = shown(report())
    assert "row 33" in html
    assert "rows 8 and 41" in html
    # Of rows that contradict each other one is left out, of others all.
    assert 'data-row="41"' in html
    assert 'data-row="102,18"' in html
    assert "5 of 410 rows" in html
    assert 'data-row="33,8,41,102,18"' in html


@pytest.mark.parametrize("part", sorted({*GAPS, "verdict", "facts"}))
def test_a_report_with_a_gap_still_shows_the_rest(part):
    made = report()
    del made[part]
    without = shown(made)
    assert shown(report(**{part: GAPS.get(part)}))
    assert "Answers side by side" in without or part == "examples"


def test_a_report_of_gaps_shows_its_verdict():
    text = text_of(shown(report(**GAPS)))
    assert text.startswith("Better than the base model")
    assert "What it forgot" not in text


def test_parts_may_lack_any_of_their_names():
    """Every name of every part is left out once, as in a report of another release."""
    whole = prompt_does()
    count = 0
    for made in _without_one(whole):
        assert shown(made)
        assert metrics.as_table(made)
        count += 1
    assert count > 100


def _without_one(value: Any) -> Iterator[Any]:
    """Yield copies of a value, each without one of its names; of a list, its first entry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: each for name, each in value.items() if name != key}
            yield from ({**value, key: smaller} for smaller in _without_one(inner))
    elif isinstance(value, list) and value:
        yield from ([smaller, *value[1:]] for smaller in _without_one(value[0]))


def test_tool_calls_and_tasks_are_tables():
    text = text_of(shown(prompt_does()))
    assert "Name of the tool – 75 % (60–87 %) 90 % (77–97 %)" in text
    assert "arc_easy acc 0.410 0.400" in text


def test_foreign_text_is_text():
    html = shown(foreign(prompt_does(), PAYLOAD))
    assert PAYLOAD not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") > 30


def test_the_table_to_copy_has_all_numbers():
    lines = metrics.as_table(report()).splitlines()
    assert lines[0] == "| Metric | Better | Rows | Base model | Base + 5 examples | Tuned model |"
    assert "| Exact match | higher | 102 | 0 % (0–4 %) | 6 % (3–12 %) | 24 % (16–33 %) |" in lines
    made = report()
    made["metrics"][0]["label"] = "a|b\nc"
    made["metrics"][0]["contestants"]["base"] = None
    assert r"| a\|b c | lower | 102 | – |" in metrics.as_table(made)
