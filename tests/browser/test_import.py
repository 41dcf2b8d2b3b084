"""Settings of another program are dropped on the Train page, read there, used and trained."""

import json
import zipfile
from pathlib import Path

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from tests.runs.homes import put_run

pytestmark = pytest.mark.browser

SUROGATE = """\
model: starter
datasets:
  - path: sample:captain
sample_packing: true
lora_rank: 8
learning_rate: 1e-4
per_device_train_batch_size: 4
optimizer: adamw
max_steps: 6
recipe: nvfp4
"""
FACTORY = """\
model_name_or_path: starter
stage: sft
finetuning_type: lora
dataset: shelves
cutoff_len: 256
max_steps: 6
"""
DROP = """(files) => {
  const carried = new DataTransfer();
  for (const [name, text] of files) carried.items.add(new File([text], name));
  const event = { dataTransfer: carried, bubbles: true, cancelable: true };
  document.dispatchEvent(new DragEvent('drop', event));
}"""


@pytest.fixture
def server(servers, home_with_starter):
    return servers(home_with_starter)


def drop(page, *files):
    page.evaluate(DROP, list(files))


def use(page):
    page.locator('#import-use[aria-disabled="false"], #import-use:not([aria-disabled])').click()
    page.wait_for_selector('#start[aria-disabled="false"]')


def test_a_surogate_file_is_dropped_read_used_and_trained(server, opened):
    page = opened(server.url)
    page.locator("#f-lora_r").fill("24")
    drop(page, ("theirs.yaml", SUROGATE))
    report = page.locator("#import-report")
    report.wait_for()
    assert page.get_by_role("heading", name="Surogate").is_visible()
    refused = report.locator('tr[data-result="refused"]')
    assert "recipe: nvfp4" in refused.inner_text()
    assert "PyTorch cannot train with FP4" in refused.inner_text()
    # The filters show one result alone, and taken options are behind one line.
    taken = report.locator('tr[data-result="taken"]')
    assert not taken.first.is_visible()
    report.get_by_role("button", name="Show lines").first.click()
    assert taken.first.is_visible()
    report.get_by_role("button", name="Refused").click()
    assert refused.is_visible()
    assert not taken.first.is_visible()
    changes = page.locator("#import-changes tr", has_text="LoRA rank")
    assert changes.inner_text().split() == ["LoRA", "rank", "24", "8", "line", "5"]
    # Nothing is changed before the button, and Undo brings the form back.
    use(page)
    assert page.locator("#f-lora_r").input_value() == "8"
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelector('#f-lora_r').value === '24'")
    page.go_back()
    page.locator("#import-report").wait_for()
    use(page)
    page.locator("#start").click()
    page.locator('#page[data-state="finished"]').wait_for()
    page.get_by_role("tab", name="Settings").click()
    settings = page.locator('[data-part="run-settings"]').inner_text()
    assert "lora_r: 8\n" in settings
    assert "max_steps: 6\n" in settings


def test_a_command_line_is_pasted_and_read_as_another_system(server, opened):
    page = opened(server.url)
    page.get_by_role("tab", name="Recipe").click()
    page.get_by_role("button", name="From another program").click()
    text = page.locator("#import-text")
    text.fill("learning_rate: 1e-4\nmax_steps: 10\n")
    page.locator("#import-read").click()
    page.get_by_role("heading", name="Nothing is taken").wait_for()
    page.get_by_label("Read as").select_option("surogate")
    page.get_by_role("heading", name="Surogate").wait_for()
    # A reload shows it again.
    page.reload()
    page.get_by_role("heading", name="Surogate").wait_for()
    page.locator("#import-fold").click()
    text.fill("trl sft --model_name_or_path acme/pine --lora_r 8 --use_peft")
    page.locator("#import-read").click()
    page.get_by_role("heading", name="TRL").wait_for()
    page.get_by_role("button", name="Back to the form").click()
    page.wait_for_selector('#page[data-mode="form"]')
    assert page.locator("#f-lora_r").input_value() != "8"


def test_own_recipes_and_data_are_no_import(server, opened):
    page = opened(server.url)
    drop(page, ("mine.yaml", "lora_r: 24\ndataset: sample:captain\n"))
    page.wait_for_function("document.querySelector('#f-lora_r').value === '24'")
    drop(page, ("rows.json", '{"data": [{"question": "Why?", "answer": "So."}]}'))
    page.wait_for_function("document.querySelector('#text-dataset').value.endsWith('rows.json')")
    assert page.locator("#page").get_attribute("data-mode") == "form"


def test_the_data_of_the_form_is_kept_on_request(server, opened):
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    drop(page, ("theirs.yaml", SUROGATE.replace("sample:captain", "absent.jsonl")))
    page.get_by_text("The form will ask for this:").wait_for()
    page.get_by_label("Keep the data of the form").check()
    page.get_by_text("The form will ask for this:").wait_for(state="detached")
    use(page)
    assert page.get_by_label("The captain").is_checked()


def test_a_shipped_preset_shows_what_it_changes_before_it_is_applied(server, opened):
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.locator("#f-lora_r").fill("24")
    page.get_by_role("button", name="Presets").click()
    page.get_by_role("button", name="Apply Safe-Synthesizer-style").click()
    ask = page.get_by_role("dialog", name="Apply “Safe-Synthesizer-style”?")
    row = ask.locator("tr", has_text="LoRA rank")
    assert row.inner_text().split() == ["LoRA", "rank", "24", "32"]
    ask.get_by_role("button", name="Cancel").click()
    assert page.locator("#f-lora_r").input_value() == "24"
    page.get_by_role("button", name="Presets").click()
    page.get_by_role("button", name="Apply Safe-Synthesizer-style").click()
    ask.get_by_role("button", name="Apply").click()
    page.wait_for_function("document.querySelector('#f-lora_r').value === '32'")
    assert page.get_by_label("The captain").is_checked()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelector('#f-lora_r').value === '24'")


def test_the_form_and_a_run_are_exported_and_ejected(server, opened):
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.locator("#f-lora_r").fill("24")
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("tab", name="Recipe").click()
    page.locator("#export-settings").click()
    ask = page.get_by_role("dialog", name="Export settings")
    ask.get_by_label("Write them for").select_option("axolotl")
    ask.get_by_text("axolotl train").wait_for()
    with page.expect_download() as download:
        ask.get_by_role("button", name="Download").click()
    assert "lora_r: 24" in Path(download.value.path()).read_text("utf-8")
    page.locator("#start").click()
    page.locator('#page[data-state="finished"]').wait_for()
    page.get_by_role("tab", name="Settings").click()
    page.locator("#export-run-settings").click()
    ask.get_by_label("With the rows").check()
    with page.expect_download() as download:
        ask.get_by_role("button", name="Download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert any(name.endswith("_rows.jsonl") for name in archive.namelist())
    page.locator("#eject-run").click()
    ask.get_by_text("The script needs TRL and PEFT alone.").wait_for()
    assert ask.get_by_label("Write them for").input_value() == "script"


def test_a_file_is_dropped_with_its_data_and_what_names_them(server, opened):
    page = opened(server.url)
    rows = [{"ask": f"Where is {n}?", "say": f"On shelf {n}."} for n in range(30)]
    columns = {"prompt": "ask", "response": "say"}
    drop(
        page,
        ("theirs.yaml", FACTORY),
        ("dataset_info.json", json.dumps({"shelves": {"file_name": "s.json", "columns": columns}})),
        ("s.json", json.dumps(rows)),
    )
    page.get_by_role("heading", name="LLaMA-Factory").wait_for()
    assert "Data: s.json" in page.locator("#import-report").inner_text()
    page.get_by_text("form now → then").wait_for()
    use(page)
    assert page.locator('[data-part="sum-data"]').inner_text().startswith("s.json · 30 rows")


def test_a_notebook_is_downloaded_and_a_zip_opens_as_a_run(server, opened, held_script, tmp_path):
    page = opened(server.url)
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]')
    page.get_by_role("tab", name="Recipe").click()
    page.locator("#notebook").click()
    ask = page.get_by_role("dialog", name="Notebook for Colab or Kaggle")
    assert "ModelForge" in ask.inner_text()
    with page.expect_download() as download:
        ask.get_by_role("button", name="Download").click()
    assert json.loads(Path(download.value.path()).read_text("utf-8"))["nbformat"] == 4
    there = Forge(Home(tmp_path / "there"))
    run = put_run(there.home.root, 1, name="From far away")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n", "utf-8")
    record = json.loads(run.config.read_text("utf-8"))
    record["dataset"]["path"] = str(rows)
    run.config.write_text(json.dumps(record), "utf-8")
    packed = there.archives.pack(run.id, tmp_path / "run.zip")
    (tmp_path / "other.zip").write_bytes(b"no zip")
    # The script of the page comes after the file was chosen and the search was typed.
    release = held_script(page, "runs")
    page.goto(f"{server.url}/runs", wait_until="commit")
    page.locator(".search").fill("far")
    page.locator("#run-file").set_input_files(tmp_path / "other.zip")
    release()
    page.locator(".toast.bad", has_text="not a zip file").wait_for()
    page.wait_for_url("**/runs?q=far")
    assert page.locator(".search").input_value() == "far"
    page.locator("#run-file").set_input_files(packed)
    page.locator('#page[data-state="finished"]').wait_for()
    assert page.get_by_role("heading", name="From far away").is_visible()
