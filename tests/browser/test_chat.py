"""The Chat page over stand-in models: two sides, votes, corrections, a question that waits."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser.test_train import start
from tests.runs.homes import put_run

pytestmark = pytest.mark.browser

QUESTION = "What is the capital of France?"
TUNED, BASE = "Ahoy! A sailor's guess", "The capital of France is Paris."


@pytest.fixture
def home(home_with_starter):
    """A home with two runs of the same base model, a run for summaries and one for spans."""
    for number, name in enumerate(("first try", "rank 16")):
        put_run(home_with_starter, 9 - number, name=name, model_name="starter")
    put_run(home_with_starter, 20, name="brief", model_name="starter", task="summarization")
    task = "extractive-question-answering"
    put_run(home_with_starter, 21, name="spans", model_name="starter", task=task)
    return home_with_starter


@pytest.fixture
def page(servers, home, opened):
    return opened(f"{servers(home).url}/chat")


def ask(page, text):
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def settled(page):
    """Wait until the last question is answered and the chat is saved."""
    page.get_by_role("button", name="Send", exact=True).wait_for()
    page.wait_for_url(re.compile(r"\?chat="))
    page.locator('#saved-chats[aria-busy="false"] .saved[aria-current="true"]').wait_for()


def answers(page):
    return page.locator(".say .text").all_inner_texts()


def choose_run(page, name):
    picker = page.locator("#chat-model")
    value = picker.locator("option", has_text=name).get_attribute("value")
    picker.select_option(value)
    return value


def test_both_sides_answer_and_a_reload_shows_the_same_chat(page):
    choose_run(page, "first try")
    ask(page, QUESTION)
    settled(page)
    both = answers(page)
    assert both[0] == BASE
    assert both[1].startswith(TUNED)
    assert page.locator(".say .what").all_inner_texts() == ["base model", "tuned"]
    assert re.fullmatch(r"\d+ of 2,048 tokens", page.locator("#chat-context .num").inner_text())

    # An answer that is changed is part of the conversation.
    page.get_by_role("button", name="Edit the answer of the tuned model").click()
    page.get_by_role("textbox", name="The answer").fill("Paris, captain.")
    page.get_by_role("button", name="Save").click()
    with page.expect_request("**/api/chat") as sent:
        ask(page, "And of Spain?")
    sides = sent.value.post_data_json["sides"]
    assert [side["tuned"] for side in sides] == [False, True]
    for side, answer in zip(sides, (BASE, "Paris, captain."), strict=True):
        texts = [message["content"] for message in side["messages"]]
        assert texts == [QUESTION, answer, "And of Spain?"]
    settled(page)

    page.reload()
    page.get_by_text("Paris, captain.").wait_for()
    assert page.locator(".asked").all_inner_texts() == [QUESTION, "And of Spain?"]
    assert answers(page)[:2] == [BASE, "Paris, captain."]

    # A changed question is asked again, without what came after it.
    page.get_by_role("button", name="Edit this message").first.click()
    page.get_by_text("1 later message is removed.").wait_for()
    page.locator(".panel").get_by_label("Your message").fill("Echo: <b>short</b>")
    page.get_by_role("button", name="Ask again").click()
    page.locator(".say .text", has_text="<b>short</b>").nth(1).wait_for()
    assert page.locator(".asked").all_inner_texts() == ["Echo: <b>short</b>"]


def test_the_same_seed_goes_to_both_sides_and_regenerate_takes_the_next(page):
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Seed").fill("7")
    with page.expect_request("**/api/chat") as sent:
        ask(page, QUESTION)
    assert sent.value.post_data_json["sampling"]["seed"] == 7
    settled(page)
    with page.expect_request("**/api/chat") as sent:
        page.get_by_role("button", name="Regenerate the answer of the base model").click()
    body = sent.value.post_data_json
    assert (body["sampling"]["seed"], body["sampling"]["temperature"]) == (8, 0.7)
    assert [side["tuned"] for side in body["sides"]] == [False]
    assert len(body["sides"][0]["messages"]) == 1, "the answer that is replaced is not sent"


def test_each_setting_names_its_source_and_can_be_reset(page):
    def source(name):
        return page.locator(f'[data-origin="{name}"]').inner_text()

    assert [source(name) for name in ("temperature", "top-k", "system")] == [
        "default", "model", "default",
    ]  # fmt: skip
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Top-k").fill("40")
    assert [source(name) for name in ("temperature", "top-k", "top-p")] == ["you", "you", "default"]
    page.get_by_role("button", name="Reset Temperature").click()
    assert source("temperature") == "default"
    assert page.get_by_label("Temperature").input_value() == "0"
    page.reload()
    page.wait_for_selector("[data-usable]")
    assert page.get_by_label("Top-k").input_value() == "40"
    page.get_by_role("button", name="Reset all").click()
    assert page.get_by_label("Top-k").input_value() == ""


def test_saved_chats_are_opened_renamed_and_deleted(page):
    for question in ("Who are you?", "Where is my parcel?"):
        ask(page, question)
        settled(page)
        page.get_by_role("button", name="New chat").click()
        assert page.locator(".asked").count() == 0
    saved = page.locator("#saved-chats .open")
    assert saved.all_inner_texts() == ["Where is my parcel?", "Who are you?"]
    page.locator("#saved-chats summary").last.click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Names")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Names", exact=True).click()
    page.get_by_role("heading", name="Names").wait_for()
    assert page.locator(".asked").all_inner_texts() == ["Who are you?"]
    page.locator("#saved-chats .saved", has_text="Names").locator("summary").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="New chat").wait_for()
    page.wait_for_function("document.querySelectorAll('#saved-chats .saved').length === 1")
    page.goto(page.url.split("?")[0] + "?chat=gone")
    page.locator("#toasts .bad").wait_for()
    assert page.locator(".asked").count() == 0


def test_two_runs_are_told_apart_by_their_names(page):
    choose_run(page, "first try")
    other = page.locator("#chat-other")
    other.select_option(other.locator("option", has_text="rank 16").get_attribute("value"))
    ask(page, QUESTION)
    settled(page)
    assert page.locator(".say .what").all_inner_texts() == ["rank 16", "first try"]
    page.get_by_role("button", name="Correct this answer of rank 16").wait_for()


def test_a_blind_vote_reveals_the_names_and_is_kept_with_the_run(page, home):
    run = choose_run(page, "first try")
    page.get_by_role("button", name="Blind").click()
    ask(page, QUESTION)
    settled(page)
    labels = page.locator(".say .what")
    assert labels.all_inner_texts() == ["Left", "Right"]
    assert "tuned" not in page.locator(".talk").inner_text()
    assert page.locator(".say.new").count() == 0, "no color tells which is which"
    tuned = "Left" if answers(page)[0].startswith(TUNED) else "Right"
    page.reload()
    page.locator(".votes").get_by_role("button", name=tuned).click()
    page.get_by_text("Your vote: tuned.").wait_for()
    assert f"{tuned}: tuned" in labels.all_inner_texts()
    rate = page.locator("#win-rate")
    assert "1 of 1" in rate.inner_text()
    assert page.locator("#chat-sub").inner_text().startswith("Vote 2.")
    lines = (home / "runs" / run / "votes.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 1

    page.reload()
    page.get_by_text("Your vote: tuned.").wait_for()
    rate.wait_for()
    assert page.locator(".votes").count() == 0, "there is one vote for a question"


def test_a_corrected_answer_becomes_a_row(page, home):
    choose_run(page, "first try")
    ask(page, QUESTION)
    settled(page)
    assert page.get_by_role("button", name="Correct this answer").count() == 1, "of the run alone"
    page.get_by_role("button", name="Correct this answer").click()
    page.get_by_text("Becomes row 1 of corrections.jsonl for your next run").wait_for()
    field = page.get_by_label("What the tuned model should have answered")
    assert field.input_value().startswith(TUNED)
    field.fill("Paris, captain.")
    page.get_by_role("button", name="Teach it back").click()
    page.locator("#toasts").get_by_text("Added as row 1 of corrections.jsonl.").wait_for()
    row = json.loads((home / "uploads" / "corrections.jsonl").read_text("utf-8"))
    assert [message["content"] for message in row["messages"]] == [QUESTION, "Paris, captain."]
    page.goto(page.url.split("/chat")[0] + "/?new=1")
    page.wait_for_selector("[data-usable]")
    page.get_by_text("corrections.jsonl").first.wait_for(state="attached")


def test_a_question_waits_while_a_run_trains(servers, home, opened):
    server = servers(home, pace_s=1.0)
    page = opened(server.url)
    start(page)
    run = page.url.split("run=")[1]
    page.goto(f"{server.url}/chat")
    page.wait_for_selector("[data-usable]")
    choose_run(page, "first try")
    ask(page, QUESTION)
    card = page.locator(".waits-for")
    card.get_by_text("Your question is kept and will be answered here").wait_for()
    assert "The captain · starter" in card.inner_text()
    page.reload()
    card.get_by_role("button", name="Take the question back").click()
    card.wait_for(state="detached")
    assert page.get_by_label("Your message").input_value() == QUESTION
    assert page.locator(".asked").count() == 0

    page.get_by_role("button", name="Send", exact=True).click()
    card.get_by_role("button", name="Wait").click()
    card.get_by_text("Waiting since").wait_for()
    card.get_by_role("button", name="Ask anyway on the CPU").click()
    page.get_by_text(TUNED).wait_for()
    assert page.request.get(f"{server.url}/api/runs/{run}").json()["state"] == "running"

    ask(page, "And of Spain?")
    card.wait_for()
    page.request.post(f"{server.url}/api/runs/{run}/stop")
    page.locator(".turn").nth(1).get_by_text(TUNED).wait_for()
    page.reload()
    page.locator(".turn").nth(1).get_by_text(TUNED).wait_for()
    assert page.request.get(f"{server.url}/api/chat/questions").json() == []


def test_summaries_and_span_answers_have_forms_of_their_own(page):
    choose_run(page, "brief")
    box = page.get_by_label("Your message")
    page.wait_for_function("document.querySelector('#message').rows === 6")
    assert box.get_attribute("placeholder") == "Paste a document to summarize"
    with page.expect_request("**/api/chat") as sent:
        ask(page, "A long document.")
    assert [m["content"] for m in sent.value.post_data_json["sides"][0]["messages"]] == [
        "A long document."
    ]
    settled(page)
    choose_run(page, "spans")
    passage = page.get_by_label("Text with the answers")
    ask(page, "Where?")
    page.locator("#toasts").get_by_text("Paste the text that holds the answers first.").wait_for()
    passage.fill("The shop is in Paris.")
    with page.expect_request("**/api/chat") as sent:
        page.get_by_role("button", name="Send", exact=True).click()
    messages = sent.value.post_data_json["sides"][0]["messages"]
    assert [m["role"] for m in messages] == ["system", "user"]
    assert messages[0]["content"] == "The shop is in Paris."


def test_a_call_of_a_tool_is_shown_and_its_result_is_typed(page):
    choose_run(page, "first try")
    page.get_by_role("button", name="One", exact=True).click()
    page.get_by_text("Tools", exact=True).click()
    page.get_by_label("Tools as JSON").fill("{")
    ask(page, "Tool: get_weather")
    page.get_by_text("This is not a JSON list.").wait_for()
    page.get_by_label("Tools as JSON").fill('[{"name": "get_weather", "parameters": {}}]')
    page.get_by_role("button", name="Send", exact=True).click()
    settled(page)
    assert "get_weather" in page.locator("pre.call").inner_text()
    with page.expect_request("**/api/chat") as sent:
        ask(page, "Echo: 18 degrees")
    messages = sent.value.post_data_json["sides"][0]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["name"] == "get_weather"
    page.get_by_text("Result of get_weather").wait_for()
