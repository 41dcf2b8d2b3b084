"""Data in the browser: checks, repairs, column mapping, tokens, and written examples."""

import json
import re
import time

import pytest

from tests.data.formats.workbooks import write_workbook

pytestmark = pytest.mark.browser

WARM_S = 180


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def until(page, part, pattern, seconds=20):
    deadline = time.monotonic() + seconds
    seen = ""
    while time.monotonic() < deadline:
        seen = page.locator(f'[data-part="{part}"]').first.inner_text()
        if re.search(pattern, seen):
            return seen
        page.wait_for_timeout(100)
    raise AssertionError(f"{part} never showed {pattern}; it showed {seen!r}")


def chat(asked, answer, speaker="human"):
    return {"conversations": [{"from": speaker, "value": asked}, {"from": "gpt", "value": answer}]}


def broken_sharegpt(path):
    """Forty rows: one line cut off, one repeated, one that answers with its question."""
    rows = [chat(f"Where is parcel {n}?", f"Parcel {n} comes on Monday.") for n in range(40)]
    rows[5] = rows[4]
    rows[9] = chat("Hello <b>you</b>", "Hello <b>you</b>")
    lines = [json.dumps(row) for row in rows]
    lines[16] = '{"conversations": ['
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def odd_csv(path):
    rows = "".join(f"Wo ist Paket {n}?;Paket {n} kommt morgen.;{n}\n" for n in range(30))
    path.write_text(f"Anliegen;Erwiderung;Nummer\n{rows}", encoding="utf-8")
    return path


def whatsapp(path):
    """Thirty days on which Anna asks and Ben answers."""
    days = [f"{1 + n % 28:02d}.{1 + n // 28:02d}.24" for n in range(30)]
    lines = [
        f"{day}, 10:00 - Anna: Where is parcel {n}?\n"
        f"{day}, 10:01 - Ben: Parcel {n} comes on Monday. Call +49 170 1234567.\n"
        for n, day in enumerate(days)
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def upload(page, *files):
    page.set_input_files("#file", list(files))


def test_a_large_file_is_uploaded(server, opened, tmp_path):
    page = opened(server.url)
    path = tmp_path / "large.jsonl"
    row = json.dumps({"input": "Where is it?", "output": "It comes " + "soon " * 200})
    path.write_text(f"{row}\n" * 5000, encoding="utf-8")
    upload(page, path)
    until(page, "sum-data", "5,000 rows")


def test_an_open_tab_stays_open_while_the_columns_are_chosen(server, opened, tmp_path):
    lines = [json.dumps({"Anliegen": f"Wo ist {n}?", "Erwiderung": "Hier."}) for n in range(30)]
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join([*lines[:5], "{broken", *lines[5:]]) + "\n", encoding="utf-8")
    page = opened(server.url)
    upload(page, path)
    until(page, "checks", "not valid JSON")
    page.get_by_role("tab", name="Columns").click()
    page.get_by_label("Role of Anliegen").select_option("Question")
    page.wait_for_function("document.querySelector('.used [data-role-of=\"Anliegen\"]')")
    assert page.get_by_label("Role of Anliegen").is_visible()


def repair_everything(page):
    until(page, "checks", "not valid JSON|incomplete|broken")
    page.get_by_role("button", name="Repair all in a copy").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Remove these rows?").wait_for()
    dialog.get_by_role("button", name="Remove", exact=True).click()
    until(page, "sum-data", "repaired")


def read_by_hand(page):
    page.get_by_role("button", name="Use Anliegen as Question").press("Enter")
    page.wait_for_function("document.querySelector('.used [data-role-of=\"Anliegen\"]')")
    assert page.evaluate("document.activeElement.dataset.roleOf") == "Anliegen"
    page.get_by_label("Role of Erwiderung").select_option("Answer")
    until(page, "sum-data", "30 rows")


def test_a_broken_file_shows_the_checks_and_a_repaired_copy_is_used(server, opened, tmp_path):
    page = opened(server.url)
    original = broken_sharegpt(tmp_path / "support.jsonl")
    upload(page, original)
    text = until(page, "checks", "repeats an earlier one")
    assert re.search(r"Line 1[78]", text)
    assert "equal to its prompt" in text
    assert page.get_by_role("tab", name=re.compile("Checks")).get_attribute("aria-selected")
    assert page.locator("#start").get_attribute("aria-disabled") == "true"
    before = (server.home / "uploads" / "support.jsonl").read_bytes()
    repair_everything(page)
    page.wait_for_selector('#start[aria-disabled="false"]')
    assert (server.home / "uploads" / "support.jsonl").read_bytes() == before
    page.get_by_role("tab", name="Rows", exact=True).click()
    assert "Where is parcel 3?" in until(page, "data", "The first")


def test_columns_are_mapped_by_hand_and_the_mapping_is_undone(server, opened, tmp_path):
    page = opened(server.url)
    upload(page, odd_csv(tmp_path / "odd.csv"))
    assert "Anliegen" in until(page, "reading", "do not match any kind of rows")
    assert page.locator(".raw").get_by_text("Wo ist Paket 0?").is_visible()
    read_by_hand(page)
    assert "you" in page.locator(".reading").inner_text()
    assert "instruction_field: Anliegen" in page.locator('[data-part="recipe"]').text_content()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Use Nummer as System prompt").click()
    page.wait_for_function("document.body.textContent.includes('system_prompt_field: Nummer')")
    page.get_by_label("Role of Nummer").select_option("not used")
    page.wait_for_function("!document.body.textContent.includes('system_prompt_type')")
    page.get_by_role("button", name="Undo my column mapping").click()
    until(page, "reading", "do not match any kind of rows")


def test_a_column_is_set_as_not_used_and_used_again(server, opened, tmp_path):
    file = tmp_path / "faq.jsonl"
    row = {"question": "Where is it?", "answer": "On the shelf.", "system": "You keep the store."}
    file.write_text(f"{json.dumps(row)}\n" * 12, encoding="utf-8")
    page = opened(server.url)
    upload(page, file)
    assert "from the columns question, answer and system" in until(page, "reading", "Read as")
    page.get_by_label("Role of system").select_option("not used")
    until(page, "reading", "Not used: system")
    assert "- system" in page.locator('[data-part="recipe"]').text_content()
    page.get_by_role("tab", name="Rows", exact=True).click()
    assert "You keep the store." not in page.locator('[data-part="data"]').inner_text()
    page.get_by_role("tab", name="Columns", exact=True).click()
    page.get_by_label("Role of system").select_option("by its name")
    until(page, "reading", "question, answer and system")
    assert "unused_columns" not in page.locator('[data-part="recipe"]').text_content()


def test_a_source_takes_a_weight_and_one_system_message_for_all(server, opened, tmp_path):
    file = tmp_path / "faq.jsonl"
    rows = [{"question": f"Where is {n}?", "answer": f"On shelf {n}."} for n in range(20)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    page = opened(server.url)
    upload(page, file)
    until(page, "sum-data", "20 rows")
    page.get_by_text("Change type, encoding, weight").click()
    page.get_by_label("Weight", exact=True).fill("2")
    page.get_by_label("Weight", exact=True).press("Tab")
    until(page, "sum-data", "40 rows")
    page.get_by_label("System prompt", exact=True).select_option("fixed")
    page.get_by_label("System prompt text").fill("You keep the store.")
    page.get_by_label("System prompt text").press("Tab")
    recipe = page.locator('[data-part="recipe"]')
    page.wait_for_function("document.body.textContent.includes('system_prompt: You keep')")
    assert "weight: 2" in recipe.text_content()
    assert "system_prompt: You keep the store." in recipe.text_content()
    page.wait_for_selector('#start[aria-disabled="false"]')


def test_several_files_are_mixed_and_one_is_removed(server, opened, tmp_path):
    files = []
    for name, count in (("one", 20), ("two", 30)):
        file = tmp_path / f"{name}.jsonl"
        rows = [{"question": f"{name} {n}?", "answer": f"{name} {n}."} for n in range(count)]
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        files.append(file)
    page = opened(server.url)
    upload(page, *files)
    until(page, "sum-data", "50 rows")
    page.get_by_role("button", name="Remove one.jsonl").click()
    until(page, "sum-data", r"two.jsonl · 30 rows")
    assert page.get_by_role("button", name="Remove two.jsonl").count() == 0


def test_a_sample_replaces_a_mapped_file(server, opened, tmp_path):
    page = opened(server.url)
    upload(page, odd_csv(tmp_path / "odd.csv"))
    until(page, "reading", "do not match any kind of rows")
    read_by_hand(page)
    page.get_by_label("The captain").check()
    until(page, "sum-data", "234 rows")
    assert "instruction_field" not in page.locator('[data-part="recipe"]').text_content()


def test_examples_are_written_pasted_and_used(server, opened):
    page = opened(f"{server.url}/build")
    page.get_by_label("Question of row 1").fill("Who are you? <i>")
    page.get_by_label("Answer of row 1").fill("A captain.")
    page.get_by_label("Question of row 2").focus()
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            const rows = [...Array(12).keys()].map((n) => `Where ${n}?\\t"There,\\nover ${n}."`);
            data.setData("text/plain", rows.join("\\n"));
            const about = { clipboardData: data, bubbles: true, cancelable: true };
            document.activeElement.dispatchEvent(new ClipboardEvent("paste", about));
        }"""
    )
    assert page.locator("#written").inner_text() == "13 complete examples"
    page.reload()
    page.wait_for_selector("[data-usable]")
    assert page.get_by_label("Answer of row 13").input_value() == "There,\nover 11."
    page.get_by_label("Name").first.fill("captain's words")
    page.get_by_role("button", name="Save and use").first.click()
    until(page, "sum-data", "13 rows")
    assert "Who are you? <i>" in page.locator('[data-part="data"]').inner_text()


def test_an_incomplete_example_is_not_stored(server, opened):
    page = opened(f"{server.url}/build")
    page.get_by_label("Question of row 1").fill("Who?")
    page.get_by_role("button", name="Save and use").first.click()
    page.get_by_text("Example 1 has no answer.").wait_for()
    assert not list((server.home / "uploads").glob("*"))


def test_a_table_is_imported_as_examples(server, opened, tmp_path):
    page = opened(f"{server.url}/build")
    page.set_input_files("#csv", odd_csv(tmp_path / "odd.csv"))
    page.get_by_label("Question of row 30").wait_for()
    assert page.get_by_label("Answer of row 1", exact=True).input_value() == "Paket 0 kommt morgen."


@pytest.mark.torch
def test_a_broken_file_is_repaired_and_trained_for_two_steps(
    servers, home_with_starter, opened, tmp_path
):
    server = servers(home_with_starter, real=True)
    page = opened(server.url)
    upload(page, broken_sharegpt(tmp_path / "support.jsonl"))
    repair_everything(page)
    upload(page, odd_csv(tmp_path / "odd.csv"))
    until(page, "reading", "do not match any kind of rows")
    read_by_hand(page)

    page.get_by_role("tab", name="What the model sees").click()
    until(page, "tokens", r"\d+ of \d+ tokens are trained", WARM_S)
    tokens = page.locator(".tok")
    assert "Paket 0 kommt morgen." in "".join(tokens.locator(".t").all_inner_texts())
    assert "Wo ist Paket 0?" in "".join(tokens.locator(".m").all_inner_texts())
    assert tokens.locator(".e").count() == 1
    assert re.match(r"id \d+", tokens.locator(".t").first.get_attribute("title"))
    page.get_by_role("button", name="Next row").click()
    until(page, "tokens", "Row 2 as it is trained", WARM_S)
    page.get_by_role("tab", name="Lengths").click()
    until(page, "lengths", "Longest row", WARM_S)

    page.get_by_text("Or from the Hugging Face Hub").click()
    page.get_by_label("Dataset", exact=True).fill("missing/dataset")
    page.get_by_role("button", name="Download").click()
    until(page, "hub", "The Hub cannot be reached", WARM_S)

    page.get_by_role("tab", name=re.compile("^All ")).click()
    page.get_by_label("Max steps", exact=True).fill("2")
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"\?run="))
    until(page, "run-head", "finished", 600)
    assert "2 steps" in page.locator('[data-part="run-verdict"]').inner_text()


@pytest.mark.torch
def test_pairs_are_sampled_and_picked_with_a_key(servers, home_with_starter, opened):
    server = servers(home_with_starter, real=True)
    page = opened(f"{server.url}/build?make=pairs")
    page.get_by_label("Prompts, one per line").fill("Name a colour.\nName an animal.")
    page.get_by_role("button", name="Sample answers").click()
    page.wait_for_selector('#answer-1[aria-disabled="false"]', timeout=WARM_S * 1000)
    better = page.locator("#answer-2 .text").inner_text()
    page.keyboard.press("2")
    page.wait_for_selector('#answer-1[aria-disabled="false"]', timeout=WARM_S * 1000)
    page.locator("#answer-1").click()
    page.get_by_role("button", name="Save and use").last.click()
    until(page, "sum-data", "2 rows")
    rows = [
        json.loads(line)
        for line in (server.home / "uploads" / "my-pairs.jsonl").read_text("utf-8").splitlines()
    ]
    assert [row["prompt"] for row in rows] == ["Name a colour.", "Name an animal."]
    assert rows[0]["chosen"].strip() == better.strip()
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_the_person_of_a_chat_export_is_chosen_and_trained(server, opened, tmp_path):
    page = opened(server.url)
    upload(page, whatsapp(tmp_path / "WhatsApp Chat.txt"))
    until(page, "sum-data", "cannot be used yet")
    asked = page.get_by_role("group", name="Who shall the model be?")
    asked.get_by_role("button", name="Ben").click()
    until(page, "sum-data", "30 rows · conversations")
    first = page.locator("#mapping td").first
    assert '"role": "assistant", "content": "Parcel 0 comes on Monday' in first.inner_text()
    assert "+49 170 1234567" in first.inner_text()
    page.get_by_label("Mask numbers and addresses").select_option("true")
    page.wait_for_function("!document.querySelector('#mapping td').textContent.includes('1234567')")
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.locator("#start").click()
    page.locator('#page[data-state="finished"]').wait_for()
    page.get_by_role("tab", name="Settings").click()
    settings = page.locator('[data-part="run-settings"]').inner_text()
    assert "chat_person: Ben" in settings
    assert "chat_mask: true" in settings


def test_the_sheet_of_a_workbook_is_chosen(server, opened, tmp_path):
    rows = [["prompt", "completion"], *([f"Where is {n}?", f"On shelf {n}."] for n in range(30))]
    sheets = {"Notes": [["note"], ["none"]], "Pairs": rows}
    page = opened(server.url)
    upload(page, write_workbook(tmp_path / "book.xlsx", sheets))
    page.get_by_label("Sheet", exact=True).select_option("Pairs")
    until(page, "sum-data", "30 rows")
