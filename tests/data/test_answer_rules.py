"""Rules of answers: every check on answers that pass and fail it, refusals, contradictions."""

import time
from pathlib import Path

import pytest

from modelforge.data.answer_rules import (
    CHECKS,
    list_items,
    numbers,
    parse_rule,
    refuses,
    sentences,
)

# A rule, answers that pass, answers that do not.
EXAMPLES = [
    (
        {"contains": ["Paris", "paname"]},
        ["It is paris.", "Paris", "**Paname**"],
        ["Parisian food", "comparis", "Rome", ""],
    ),
    ({"contains": "H2O"}, ["water is h2o"], ["H2O2"]),
    ({"contains": ["don't"]}, ["I don’t know"], ["do not"]),
    ({"contains_all": ["red", "blue"]}, ["Blue, then red."], ["red", "bluered"]),
    ({"in_order": ["one", "two"]}, ["one, two"], ["two, one", "one"]),
    ({"without": [",", "the"]}, ["No comma here", "The end"], ["one, two", "in the end"]),
    (
        {"equals": ["yes", "no"]},
        ["Yes.", "**no**", " YES! "],
        ["yes, it is", "not"],
    ),
    ({"starts_with": "Ahoy"}, ["Ahoy there", "\nAhoy"], ["ahoy", "Well, Ahoy"]),
    ({"ends_with": "Over."}, ["Ready. over.", "Over.\n"], ["Over", "Over. Yes"]),
    (
        {"number": 42},
        [
            "42",
            "17 + 25 = 42.",
            "42 is 17 plus 25",
            "42.0",
            "**42**",
            "It is 42, I think",
            "$42",
            "6 x 7 = 42. 2 of 3 know.",
        ],
        ["24", "142", "42.5", "-42", "17 + 42 = 59", "forty-two"],
    ),
    ({"number": -3.5}, ["-3.5", "It is −3.5 °C."], ["3.5", "8-3.5"]),
    ({"number": 1250}, ["1,250 metres", "1250"], ["1,25", "125"]),
    (
        {"json_keys": ["name", "age"]},
        ['{"age": 3, "name": "Ann"}', '```json\n{"name": 1, "age": null}\n```'],
        ['{"name": "Ann"}', '{"name": 1, "age": 2, "x": 3}', "name, age", '[{"name":1,"age":2}]'],
    ),
    (
        {"list_items": 3},
        ["- a\n- b\n- c", "1. a\n2. b\n3. c", "Here:\n* a\n* b\n* c\nDone.", '["a", "b", "c"]'],
        ["- a\n- b", "a, b, c", "1. a\n2. b\n3. c\n4. d", "-a\n-b\n-c"],
    ),
    ({"lines": 2}, ["a\nb", "a\n\nb\n"], ["a", "a\nb\nc"]),
    (
        {"sentences": 2},
        ["One. Two!", "It costs 3.50 euros. Fine", "“Go.” He went."],
        ["One.", "One. Two. Three."],
    ),
    ({"most_words": 3}, ["one two three", "one"], ["one two three four"]),
    ({"least_words": 2}, ["one two"], ["one"]),
    ({"case": "upper"}, ["ALL OF IT, 3!"], ["Most of it"]),
    ({"case": "lower"}, ["all of it"], ["All of it"]),
    ({"refuses": True}, ["I can't help with that."], ["Sure, here is how."]),
    ({"refuses": False}, ["Use kill and its number."], ["I'm sorry, but no."]),
    ({"contains": "Rome", "most_words": 2}, ["In Rome"], ["It is in Rome", "Oslo"]),
]


@pytest.mark.parametrize(("rule", "right", "wrong"), EXAMPLES, ids=lambda value: str(value)[:40])
def test_a_rule_tells_right_from_wrong_answers(rule, right, wrong):
    parsed = parse_rule(rule)
    assert [answer for answer in right if not parsed.holds(answer)] == []
    assert [answer for answer in wrong if parsed.holds(answer)] == []
    assert parsed.describe()


def test_every_check_has_an_example():
    assert {name for rule, _, _ in EXAMPLES for name in rule} == set(CHECKS)


def test_every_check_is_documented():
    page = Path(__file__).resolve().parents[2] / "docs" / "evaluation-metrics.md"
    table = page.read_text("utf-8").partition("## Rules of answers")[2].partition("## ")[0]
    assert [name for name in CHECKS if f"`{name}`" not in table] == []


def test_no_rule_holds_for_an_empty_answer():
    assert not any(parse_rule(rule).holds(" \n") for rule, _, _ in EXAMPLES)


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that.",
        "I’m sorry, but I cannot do this.",
        "Sorry, I won't share that.",
        "I am not able to write this for you.",
        "As an AI, I cannot provide that.",
        "I'm unable to assist with it.",
        "I must decline.",
        "We do not provide such things.",
        "My apologies, that is not something for me.",
        "I'm sorry for any misunderstanding, but as a chatbot I don't have this capability.",
        "As an assistant I do not have the ability to do that.",
        "This is not allowed, and I will not help.",
    ],
)
def test_a_refusal(answer):
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Sure! Here is how to do it.",
        "I can't wait to show you: first, open the box.",
        "I cannot stress enough that you should stir it.",
        "The cat cannot swim.",
        "I'm sorry for the wait. Here are the three steps.",
        "Sorry to hear that! Drink some tea.",
        "You should not forget the salt.",
        "I don't see why not. First, take the lid off.",
        "A penguin is a bird that can not fly.",
        "Here is the answer. " * 20 + "I can't help with that.",
        "",
    ],
)
def test_no_refusal(answer):
    assert not refuses(answer)


def test_numbers_items_and_sentences_of_odd_texts():
    assert numbers("v2, 3rd, 1,000,000 and .5; 10-3, x=-7") == [2, 3, 1_000_000, 5, 10, 3, -7]
    assert list_items("a) one\nB. two\n(3) three\n– four\n1.five") == 4
    assert list_items("```\n- a\n- b\n```") == 2
    assert sentences("") == 1
    assert sentences("Wait... what?!") == 2
    assert sentences("「はい。」") == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "no check"),
        ("Paris", "no check"),
        ({"contain": "Paris"}, "unknown check 'contain'"),
        ({"contains": []}, "not a text or a list of texts"),
        ({"contains": ""}, "not a text or a list of texts"),
        ({"number": "42"}, "not a number"),
        ({"number": True}, "not a number"),
        ({"most_words": 0}, "not a whole number above 0"),
        ({"most_words": 2.5}, "not a whole number above 0"),
        ({"refuses": 1}, "not true or false"),
        ({"case": "title"}, 'not "upper" or "lower"'),
        ({"most_words": 3, "least_words": 4}, "at least 4 words, but at most 3"),
        ({"without": ["a"], "contains_all": ["cat"]}, "contains_all and without have 'a'"),
        ({"without": ["a"], "contains": ["cat", "rat"]}, "contains and without have 'a'"),
        ({"without": ["A"], "starts_with": "Ahoy"}, "starts_with and without have 'A'"),
        ({"refuses": True, "number": 3}, "an answer and a refusal"),
        ({"json_keys": "a", "list_items": 3}, "a JSON object and a list"),
        ({"list_items": 3, "lines": 2}, "a list of 3 items in 2 lines"),
        ({"equals": "yes it is", "most_words": 2}, "no text of equals passes"),
        ({"equals": "yes", "number": 4}, "no text of equals passes"),
    ],
)
def test_a_rule_that_no_answer_can_pass_is_refused(rule, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse_rule(rule)


@pytest.mark.parametrize(
    "rule",
    [
        {"without": ["a"], "contains": ["cat", "dog"]},
        {"equals": "Yes", "case": "upper"},
        {"equals": ["yes", "a very long text"], "most_words": 1},
        {"list_items": 3, "lines": 1},
        {"refuses": True, "most_words": 20},
    ],
)
def test_a_rule_that_an_answer_can_pass(rule):
    parse_rule(rule)


@pytest.mark.parametrize("text", [" " * 100_000, "1," * 50_000, "I " * 50_000, "'\"" * 50_000])
def test_no_answer_takes_long(text):
    start = time.process_time()
    for rule, _, _ in EXAMPLES:
        parse_rule(rule).holds(f"a{text}b")
    assert time.process_time() - start < 2
