"""Datasets of the Hub that are not downloaded are offered, and downloaded with progress."""

import json
import sys
from pathlib import Path

import pytest

from modelforge.data.sources.locate import fetched_path
from modelforge.forge import Forge
from modelforge.paths import Home
from ui.pages.train import data_actions, response
from ui.pages.train.form import Entered

ACTORS = Path(__file__).parents[3] / "actors"


@pytest.fixture
def forge(tmp_path):
    worker = [sys.executable, str(ACTORS / "answers.py")]
    made = Forge(Home(tmp_path / "home"), warm_worker=worker)
    yield made
    made.close()


def fetched(forge, name, subset=None, split=None):
    path = fetched_path(forge.home, name, subset, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ({"path": "owner/trees"}, 'data-name="owner/trees"'),
        ({"path": "hub:owner/trees"}, 'data-name="owner/trees"'),
        ({"path": "hub:trees"}, 'data-name="trees"'),
        ({"path": "owner/trees", "subset": "en"}, 'data-subset="en"'),
        ({"path": "owner/trees", "split": "train[:10%]"}, 'data-split="train[:10%]"'),
    ],
)
def test_a_dataset_that_is_not_downloaded_has_a_button(forge, source, wanted):
    shown = data_actions.hub_offer(forge, [source])
    assert 'data-action="fetch-hub"' in shown
    assert wanted in shown
    name = source["path"].removeprefix("hub:")
    fetched(forge, name, source.get("subset"), source.get("split"))
    assert "fetch-hub" not in data_actions.hub_offer(forge, [source])


def test_an_address_of_object_storage_has_a_button_too(forge):
    shown = data_actions.hub_offer(forge, [{"path": "s3://bucket/sets/"}])
    assert 'data-name="s3://bucket/sets/"' in shown
    assert "from the Hub" not in shown
    (forge.home.datasets / "s3__bucket__sets__folder").mkdir(parents=True)
    assert "fetch-hub" not in data_actions.hub_offer(forge, [{"path": "s3://bucket/sets/"}])


@pytest.mark.parametrize(
    "path", ["rows.jsonl", "owner/rows.csv", "hub:../../etc/passwd", "/tmp", "", 5, "a/b/c"]
)
def test_other_sources_have_none(forge, path):
    assert "fetch-hub" not in data_actions.hub_offer(forge, [{"path": path}])


def test_the_reply_to_the_form_has_the_button_beside_the_error(forge):
    entered = Entered(values={"dataset": "owner/trees"})
    reply = response.reply(forge, entered)
    assert "Download owner/trees from the Hub" in reply.parts["hub-offer"]
    assert "has not been downloaded" in reply.errors["dataset"]
    fetched(forge, "owner/trees")
    assert "Download" not in response.reply(forge, entered).parts["hub-offer"]


def test_a_download_shows_its_progress_and_the_name_of_the_file(forge):
    lines = [json.loads(line) for line in data_actions.fetch_lines(forge, "owner/trees", None, "")]
    assert lines[0]["progress"] == "Downloading rows: 1 of 2 …"
    assert lines[-1]["done"] == "owner--trees__train.parquet"
    assert "fetch-hub" not in data_actions.hub_offer(forge, [{"path": "owner/trees"}])


def test_a_download_that_fails_says_why(forge):
    *_, last = data_actions.fetch_lines(forge, "../etc", None, None)
    assert "is not the name of a dataset on the Hub" in json.loads(last)["error"]
