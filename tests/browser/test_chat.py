"""The Chat page over stand-in models: two sides, votes, corrections, a question that waits."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser.test_accessibility import PROBLEMS
from tests.browser.test_guide import SIDEWAYS
from tests.browser.test_train import start
from tests.runs.homes import put_run

pytestmark = pytest.mark.browser

QUESTION = "What is the capital of France?"
TUNED, BASE = "Ahoy! A sailor's guess", "The capital of France is Paris."
OTHER = "Paris, as every schoolchild knows."


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


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def ask(page, text):
    """Ask, and return the body of the request."""
    page.locator("#message").fill(text)
    with page.expect_request("**/api/chat") as sent:
        press(page, "Send")
    return sent.value.post_data_json


def settled(page):
    """Wait until the last question is answered and the chat is saved."""
    page.get_by_role("button", name="Send", exact=True).wait_for()
    page.wait_for_url(re.compile(r"\?chat="))
    page.locator('#saved-chats[aria-busy="false"] .saved[aria-current="true"]').wait_for()


def answers(page):
    return page.locator(".say .text").all_inner_texts()


def labels(page):
    return page.locator(".say .what").all_inner_texts()


def choose(page, picker, name):
    """Choose a model; return its id."""
    option = page.locator(f"#{picker} option", has_text=name)
    value = option.get_attribute("value")
    page.locator(f"#{picker}").select_option(value)
    return value


def reload(page):
    page.reload()
    page.wait_for_selector("[data-usable]")


def test_a_question_sent_before_the_script_of_the_page_has_come_is_asked(
    servers, home, opened, held_script
):
    url = servers(home).url
    page = opened(url)
    release = held_script(page, "chat")
    page.goto(f"{url}/chat", wait_until="commit")
    page.locator("#message").fill(QUESTION)
    for _ in range(2):
        press(page, "Send")
    release()
    page.get_by_text(TUNED).wait_for()
    assert answers(page)[0] == BASE
    assert page.locator(".asked").all_inner_texts() == [QUESTION]


def test_both_sides_answer_and_a_reload_shows_the_same_chat(page):
    choose(page, "chat-model", "first try")
    ask(page, QUESTION)
    settled(page)
    assert answers(page)[0] == BASE
    assert answers(page)[1].startswith(TUNED)
    assert labels(page) == ["base model", "tuned"]
    assert re.fullmatch(r"\d+ of 2,048 tokens", page.locator("#chat-context .num").inner_text())

    # An answer that is changed is part of the conversation.
    press(page, "Edit the answer of the tuned model")
    page.locator(".panel textarea").fill("Paris, captain.")
    press(page, "Save")
    sides = ask(page, "And of Spain?")["sides"]
    assert [side["tuned"] for side in sides] == [False, True]
    for side, answer in zip(sides, (BASE, "Paris, captain."), strict=True):
        texts = [message["content"] for message in side["messages"]]
        assert texts == [QUESTION, answer, "And of Spain?"]
    settled(page)
    reload(page)
    assert page.locator(".asked").all_inner_texts() == [QUESTION, "And of Spain?"]
    assert answers(page)[:2] == [BASE, "Paris, captain."]

    page.get_by_role("button", name="Correct this answer").last.click()
    assert page.evaluate(PROBLEMS) == []
    for width in (390, 700):
        page.set_viewport_size({"width": width, "height": 844})
        assert not page.evaluate(SIDEWAYS)
    page.set_viewport_size({"width": 1280, "height": 900})
    press(page, "Cancel")

    # A changed question is asked again, without what came after it.
    page.get_by_role("button", name="Edit this message").first.click()
    page.get_by_text("1 later message is removed.").wait_for()
    page.locator(".panel textarea").fill("Echo: <b>short</b>")
    press(page, "Ask again")
    page.locator(".say .text", has_text="<b>short</b>").nth(1).wait_for()
    assert page.locator(".asked").all_inner_texts() == ["Echo: <b>short</b>"]
    settled(page)

    # Two runs side by side are a chat of their own.
    choose(page, "chat-other", "rank 16")
    assert page.locator(".asked").count() == 0
    ask(page, QUESTION)
    settled(page)
    assert labels(page) == ["rank 16", "first try"]
    assert answers(page)[0] in (OTHER, answers(page)[1])
    page.get_by_role("button", name="Correct this answer of rank 16").wait_for()


def test_settings_have_a_source_and_chats_are_saved(page):
    def source(name):
        return page.locator(f'[data-origin="{name}"]').inner_text()

    names = ("temperature", "top-k", "system", "seed")
    assert [source(name) for name in names] == ["default", "model", "default", "default"]
    temperature, seed = page.locator("#temperature"), page.locator("#seed")
    temperature.fill("0.7")
    seed.fill("7")
    assert [source(name) for name in names] == ["you", "model", "default", "you"]

    # Both sides have the same seed, and another answer the next one.
    assert ask(page, QUESTION)["sampling"]["seed"] == 7
    settled(page)
    with page.expect_request("**/api/chat") as sent:
        press(page, "Regenerate the answer of the base model")
    body = sent.value.post_data_json
    assert (body["sampling"]["seed"], body["sampling"]["temperature"]) == (8, 0.7)
    assert [side["tuned"] for side in body["sides"]] == [False]
    assert len(body["sides"][0]["messages"]) == 1, "the answer that is replaced is not sent"
    settled(page)
    press(page, "Reset Temperature")
    assert (source("temperature"), temperature.input_value()) == ("default", "0")
    settled(page)
    reload(page)
    assert (source("seed"), seed.input_value(), temperature.input_value()) == ("you", "7", "0")
    press(page, "Reset all")
    assert seed.input_value() == "42"

    press(page, "New chat")
    assert page.locator(".asked").count() == 0
    ask(page, "Where is my parcel?")
    settled(page)
    saved = page.locator("#saved-chats .open")
    assert saved.all_inner_texts() == ["Where is my parcel?", QUESTION]
    page.locator("#saved-chats summary").last.click()
    press(page, "Rename")
    page.locator("dialog input").fill("Capitals")
    press(page, "Save")
    press(page, "Capitals")
    page.get_by_role("heading", name="Capitals").wait_for()
    assert page.locator(".asked").all_inner_texts() == [QUESTION]
    page.locator("#saved-chats .saved", has_text="Capitals").locator("summary").click()
    press(page, "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="New chat").wait_for()
    page.wait_for_function("document.querySelectorAll('#saved-chats .saved').length === 1")
    page.goto(page.url.split("?")[0] + "?chat=gone")
    page.locator("#toasts .bad").wait_for()
    assert page.locator(".asked").count() == 0


def test_a_blind_vote_reveals_the_names_and_a_correction_becomes_a_row(page, home):
    run = choose(page, "chat-model", "first try")
    press(page, "Blind")
    ask(page, QUESTION)
    settled(page)
    assert labels(page) == ["Left", "Right"]
    assert "tuned" not in page.locator(".talk").inner_text()
    assert page.locator(".say.new").count() == 0, "no color tells which is which"
    tuned = "Left" if answers(page)[0].startswith(TUNED) else "Right"
    reload(page)
    page.locator(".votes").get_by_role("button", name=tuned).click()
    page.get_by_text("Your vote: tuned.").wait_for()
    assert f"{tuned}: tuned" in labels(page)
    rate = page.locator("#win-rate")
    assert "wins 1 of 1" in rate.inner_text()
    assert page.locator("#chat-sub").inner_text().startswith("Vote 2.")
    votes = list((home / "runs" / run).rglob("votes.jsonl"))
    assert len(votes[0].read_text("utf-8").splitlines()) == 1
    settled(page)
    reload(page)
    page.get_by_text("Your vote: tuned.").wait_for()
    rate.wait_for()
    assert page.locator(".votes").count() == 0, "there is one vote for a question"

    correct = page.get_by_role("button", name="Correct this answer")
    assert correct.count() == 1, "of the run alone"
    correct.click()
    page.get_by_text("Becomes row 1 of corrections.jsonl for your next run").wait_for()
    field = page.get_by_label("What the tuned model should have answered")
    assert field.input_value().startswith(TUNED)
    field.fill("Paris, captain.")
    press(page, "Teach it back")
    page.locator("#toasts").get_by_text("Added as row 1 of corrections.jsonl.").wait_for()
    row = json.loads((home / "uploads" / "corrections.jsonl").read_text("utf-8"))
    assert [message["content"] for message in row["messages"]] == [QUESTION, "Paris, captain."]


def test_a_question_waits_while_a_run_trains(servers, home, opened):
    server = servers(home, pace_s=1.0)
    page = opened(server.url)
    start(page)
    run = page.url.split("run=")[1]
    page.goto(f"{server.url}/chat")
    page.wait_for_selector("[data-usable]")
    choose(page, "chat-model", "first try")
    ask(page, QUESTION)
    card = page.locator(".waits-for")
    card.get_by_text("Your question is kept and will be answered here").wait_for()
    assert "The captain · starter" in card.inner_text()
    link = card.get_by_role("link", name="Show run")
    assert link.get_attribute("href") == f"/?run={run}"
    settled(page)
    reload(page)
    card.get_by_role("button", name="Take the question back").click()
    card.wait_for(state="detached")
    assert page.locator("#message").input_value() == QUESTION
    assert page.locator(".asked").count() == 0

    press(page, "Send")
    card.get_by_role("button", name="Wait").click()
    card.get_by_text("Waiting since").wait_for()
    card.get_by_role("button", name="Ask anyway on the CPU").click()
    page.get_by_text(TUNED).wait_for()
    assert page.request.get(f"{server.url}/api/runs/{run}").json()["state"] == "running"

    ask(page, "And of Spain?")
    card.wait_for()
    page.request.post(f"{server.url}/api/runs/{run}/stop")
    last = page.locator(".turn").nth(1)
    last.get_by_text(TUNED).wait_for()
    settled(page)
    reload(page)
    last.get_by_text(TUNED).wait_for()
    assert page.request.get(f"{server.url}/api/chat/questions").json() == []


def test_documents_passages_and_tools_have_forms_of_their_own(page):
    choose(page, "chat-model", "brief")
    page.wait_for_function("document.querySelector('#message').rows === 6")
    assert page.locator("#message").get_attribute("placeholder") == "Paste a document to summarize"
    messages = ask(page, "A long document.")["sides"][0]["messages"]
    assert [each["content"] for each in messages] == ["A long document."]
    settled(page)
    assert "of 3 words" in page.locator(".say .num").first.inner_text()

    choose(page, "chat-model", "spans")
    page.locator("#message").fill("Where?")
    press(page, "Send")
    page.locator("#toasts").get_by_text("Paste the text that holds the answers first.").wait_for()
    page.get_by_label("Text with the answers").fill("The shop is in Paris.")
    messages = ask(page, "Where?")["sides"][0]["messages"]
    assert [each["role"] for each in messages] == ["system", "user"]
    assert messages[0]["content"] == "The shop is in Paris."
    settled(page)

    choose(page, "chat-model", "first try")
    press(page, "One")
    page.get_by_text("Tools", exact=True).click()
    page.locator("#tools").fill("{")
    page.locator("#message").fill("Tool: get_weather")
    press(page, "Send")
    page.get_by_text("This is not a JSON list.").wait_for()
    page.locator("#tools").fill('[{"name": "get_weather", "parameters": {}}]')
    ask(page, "Tool: get_weather")
    settled(page)
    assert "get_weather" in page.locator("pre.call").inner_text()
    assert answers(page) == [""], "a call is shown once"
    messages = ask(page, "Echo: 18 degrees")["sides"][0]["messages"]
    assert [each["role"] for each in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["name"] == "get_weather"
    page.get_by_text("Result of get_weather").wait_for()
