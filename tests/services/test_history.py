"""The history: pages of runs, comparisons, exports, and disk usage."""

from __future__ import annotations

import csv
import io
import time
from html.parser import HTMLParser

import pytest

from modelforge.errors import BusyError, ConfigError, NotFoundError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.listing import RunFilter
from tests.runs.homes import put_run

FOUL = '<script>alert("x")</script>'


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def two(forge):
    root = forge.home.root
    first = put_run(root, 1, name="first", held=[2.0, 1.5], lora_r=8)
    second = put_run(
        root, 2, name="second", losses=[4.0, 3.0, 2.0, 1.0], sha256="abc", lora_r=16, lora_alpha=64,
        environment={"python": "3.12", "packages": {"torch": "2.13.0"}}, ending="failed",
    )  # fmt: skip
    return first.id, second.id


def test_runs_come_in_pages(forge):
    for number in range(7):
        put_run(forge.home.root, number)
    first = forge.history.page(limit=3)
    assert [row.name for row in first.rows] == ["run 0", "run 1", "run 2"]
    assert (first.total, first.all) == (7, 7)
    assert first.states == {"finished": 7}
    second = forge.history.page(limit=3, before=first.rows[-1].id)
    assert second.rows == forge.history.page(limit=3, offset=3).rows
    assert [row.name for row in second.rows] == ["run 3", "run 4", "run 5"]
    assert forge.history.page(offset=100).rows == []
    with pytest.raises(NotFoundError):
        forge.history.page(before="nobody")
    with pytest.raises(ConfigError):
        forge.history.page(offset=-1)


def test_a_page_follows_what_changes(forge):
    run = put_run(forge.home.root, 1)
    put_run(forge.home.root, 2)
    keep = RunFilter(tag="keep")
    assert forge.history.page(keep).total == 0
    forge.history.annotate(run.id, tags=["keep"], name="Renamed")
    assert [row.name for row in forge.history.page(keep).rows] == ["Renamed"]
    assert forge.history.page().tags == {"keep": 1}
    assert [view.name for view in forge.runs.views(keep)] == ["Renamed"]
    assert forge.runs.view(run.id).name == "Renamed"
    forge.trash.delete([run.id])
    assert forge.history.page(keep).total == 0
    assert forge.history.page().all == 1


def test_only_what_differs_is_compared(forge, two):
    compared = forge.history.compare(two)
    assert {line.name: line.values for line in compared.settings} == {
        "lora_r": [8, 16], "lora_alpha": [32, 64],
    }  # fmt: skip
    assert compared.settings[0].label != "lora_r"
    assert compared.same_settings > 30
    assert {line.name: line.values for line in compared.versions} == {"python": ["3.11", "3.12"]}
    marks = next(line for line in compared.data if line.name == "sha256")
    assert marks.values == ["1f25a0209c24", "abc"]
    assert marks.differs
    first, second = compared.runs
    assert (first.updates, first.tokens, first.seconds, first.tokens_per_s) == (3, 300, 6.0, 50.0)
    assert (first.eval_loss, first.best_eval_loss) == (1.5, 1.5)
    assert second.ending["what"] == "Memory ran out."
    assert first.verdict.startswith("The loss fell from 3.00 to 1.00.")
    assert compared.as_dict(10)["curves"][1]["stages"][0]["trained"]["loss"][-1][-1] == 1.0


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_comparison_needs_two_and_bears_eight(forge, count):
    ids = [put_run(forge.home.root, number).id for number in range(count)]
    with pytest.raises(ConfigError):
        forge.history.compare(ids)


def test_nothing_is_compared_with_itself_or_with_nothing(forge, two):
    with pytest.raises(ConfigError):
        forge.history.compare([two[0], two[0]])
    with pytest.raises(NotFoundError):
        forge.history.compare([two[0], "nobody"])


def test_every_number_goes_into_the_table(forge, two):
    forge.history.annotate(two[0], name="=1+1")
    text = "".join(forge.history.export_csv(two))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 7
    assert [row["loss"] for row in rows if row["run"] == two[0]] == ["3.0", "2.0", "1.0"]
    assert rows[2]["eval_loss"] == "1.5"
    assert rows[2]["tokens"] == "300"
    # A spreadsheet would work it out.
    assert rows[0]["name"] == "'=1+1"


class Outside(HTMLParser):
    """Finds whatever a page would run or ask the network for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.addresses = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)


def test_the_page_needs_nothing_and_runs_nothing(forge, two):
    forge.history.annotate(two[0], name=FOUL, note=FOUL, tags=["<b>"])
    page = forge.history.export_html(two)
    seen = Outside(page)
    assert "script" not in seen.tags
    assert seen.addresses == []
    assert "svg" in seen.tags
    assert "LoRA rank" in page
    assert "Memory ran out." in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_storage_is_listed_by_kind_and_the_largest_runs_first(forge):
    root = forge.home.root
    small = put_run(root, 1)
    big = put_run(root, 2, checkpoints=[10, 20])
    (root / "uploads").mkdir()
    (root / "uploads" / "rows.csv").write_bytes(b"x" * 300)
    usage = forge.storage.usage()
    assert [line["id"] for line in usage.runs] == [big.id, small.id]
    kinds = {kind.kind: kind for kind in usage.kinds}
    assert kinds["runs"].parts["checkpoints"] == 10_000
    assert kinds["data"].bytes == 300
    assert usage.bytes == sum(kind.bytes for kind in usage.kinds)
    assert [kind.bytes for kind in usage.kinds] == sorted(kinds[k].bytes for k in kinds)[::-1]
    (checkpoints,) = (one for one in usage.freeable if one.kind == "checkpoints")
    assert (checkpoints.bytes, checkpoints.runs) == (10_000, 1)


def test_only_finished_runs_lose_their_checkpoints(forge):
    root = forge.home.root
    done = put_run(root, 1, checkpoints=[10])
    torn = put_run(root, 2, checkpoints=[10], ending="failed")
    lost = put_run(root, 3, checkpoints=[10], ending=None)
    assert forge.storage.free("checkpoints") == 5000
    assert not done.checkpoints.exists()
    assert done.has_result
    assert torn.checkpoints.exists()
    assert lost.checkpoints.exists()
    assert "checkpoints" not in forge.history.row(done.id).sizes
    for run in (torn, lost):
        with pytest.raises(ConfigError):
            forge.storage.free("checkpoints", run.id)
    assert forge.storage.free("checkpoints") == 0
    with pytest.raises(NotFoundError):
        forge.storage.free("checkpoints", "nobody")
    with pytest.raises(ConfigError):
        forge.storage.free("everything")


def test_a_run_that_goes_on_again_keeps_its_checkpoints(forge):
    run = put_run(forge.home.root, 1, checkpoints=[10])
    assert forge.history.row(run.id).state == "finished"
    run.events.write_text("")
    run.process.write_text(f'{{"launching": {time.time()}}}')
    with pytest.raises(BusyError):
        forge.runs._store.delete_parts(run.id, [run.checkpoints])
    assert run.checkpoints.exists()


def test_leftovers_and_caches_go_and_nothing_else(forge):
    root = forge.home.root
    run = put_run(root, 1)
    (run.path / ".output-staged").mkdir()
    (run.path / ".output-staged" / "half").write_bytes(b"x" * 700)
    (root / "cache").mkdir(exist_ok=True)
    (root / "cache" / "thing").write_bytes(b"x" * 50)
    assert forge.storage.free("leftovers") == 700
    assert forge.storage.free("caches") >= 50
    assert not (run.path / ".output-staged").exists()
    assert run.has_result
    assert forge.history.page().total == 1
