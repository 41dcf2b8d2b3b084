"""The preflight report as one page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.pages.preflight_page import preflight_page
from tests.services.test_runs import asked

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield made
    made.close()


class Page(HTMLParser):
    """The text of a page, its tags, and its tables as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, str | None] = {}
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= dict(attributes)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0].startswith(first))


def page_of(forge, *layers) -> Page:
    return Page(preflight_page(forge.preflight.check(*layers), 1_790_000_000.0))


def test_the_page_has_settings_data_memory_time_and_findings(forge, model, data):
    page = page_of(forge, asked(model, data, lora_r=7, learning_rate=0.5))
    assert "Ready to train." in page.text
    assert page.row("LoRA rank (lora_r)")[1:] == ["7", "request"]
    checked = forge.preflight.check(asked(model, data, lora_r=7, learning_rate=0.5))
    assert checked.report is not None
    assert page.row("total")[1].startswith(f"{checked.report.memory_total_gib:.1f} GiB of")
    assert page.row("Steps")[1] == f"{checked.report.updates:,}"
    assert page.row("Time")[1].endswith("(estimated)")
    assert page.row(str(data))[2] == str(checked.summary.rows)
    assert page.row(str(data))[5].split()[0] == checked.summary.sha256
    caution = next(one for one in checked.report.findings if one.where == "learning_rate")
    assert caution.what in page.text
    assert checked.plan.changes
    assert all(one.reason in page.text for one in checked.plan.changes)


def test_the_page_needs_nothing_else_and_runs_nothing(forge, model, tmp_path):
    name = tmp_path / f"{EVIL.replace('/', '')}.jsonl"
    name.write_text(json.dumps({"input": EVIL, "output": "a secret answer"}) + "\n", "utf-8")
    settings = {"logging.run_name": EVIL, "model.system_prompt": EVIL, "eval_split": 0}
    page = page_of(forge, asked(model, name, **settings))
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form", "a"}
    assert not {name for name in page.attributes if name in ("src", "href") or name[:2] == "on"}
    assert EVIL in page.text
    assert "a secret answer" not in page.text
    html = preflight_page(forge.preflight.check(asked(model, name, **settings)), 0.0)
    assert not re.search(r"url\(|@import|https?:", html)


def test_problems_are_on_the_page_of_settings_that_cannot_be_used(forge, data, tmp_path):
    page = page_of(forge, asked(tmp_path / "none", data, lora_r=0))
    assert "Not ready" in page.text
    assert any("lora_r" in row[0] for row in page.rows)
    gone = page_of(forge, asked(tmp_path / "none", tmp_path / "none.jsonl"))
    assert {row[0] for row in gone.rows} >= {"errormodel_name", "errordataset"}


def test_bits_of_quantized_weights_count_their_scales(forge, model, data):
    page = page_of(forge, asked(model, data, use_4bit=True))
    assert page.row("bits per weight")[1].startswith("4.5 where quantized")
    nested = page_of(forge, asked(model, data, use_4bit=True, use_nested_quant=True))
    assert nested.row("bits per weight")[1].startswith("4.13 where quantized")
    plain = page_of(forge, asked(model, data))
    assert "where quantized" not in plain.text
