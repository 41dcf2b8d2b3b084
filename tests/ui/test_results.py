"""What a run leaves: how it is spoken to, what is taken away, and what its line says."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from modelforge.errors import NotFoundError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.event_types import parse
from modelforge.runs.events import EventWriter
from ui import routes
from ui.pages import chat, export
from ui.pages.runs import table

KEPT = Path(__file__).resolve().parents[1] / "runs" / "data" / "run-v1"
SPAN = "extractive-question-answering"


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"), spare=["true"])
    yield made
    made.close()


def left(forge, *, task="text-generation", method="sft", whole=False, said=()):
    """Make a run that has ended, with what it left and what it said."""
    record = json.loads((KEPT / "config.json").read_text("utf-8"))
    folder = forge.home.runs / record["id"]
    shutil.copytree(KEPT, folder)
    record["config"]["task"] = task
    record["plan"] |= {"method": method, "trains": "all" if whole else "adapter"}
    (folder / "config.json").write_text(json.dumps(record), "utf-8")
    (folder / "output").mkdir(exist_ok=True)
    name = "config.json" if whole else "adapter_config.json"
    (folder / "output" / name).write_text("{}", "utf-8")
    (folder / "output" / "model.safetensors").write_bytes(b"")
    with EventWriter(folder / "events.jsonl") as events:
        for kind, data in said:
            events.write(parse(kind, data))
    return forge.run(record["id"])


@pytest.mark.parametrize(
    ("task", "method", "manner", "beside"),
    [
        ("text-generation", "dpo", "turns", True),
        ("summarization", "seq2seq", "document", True),
        (SPAN, "span", "passage", False),
        (SPAN, "sft", "passage", True),
    ],
)
def test_each_kind_of_model_is_asked_as_it_answers(forge, task, method, manner, beside):
    run = left(forge, task=task, method=method)
    drawn = chat.choice([run], [], run.id)
    assert f'data-manner="{manner}"' in drawn
    assert f'data-beside="{"yes" if beside else "no"}"' in drawn


def test_a_model_trained_whole_is_talked_to_without_its_base(forge):
    run = left(forge, whole=True)
    assert [one.id for one in chat.talkers(forge)[0]] == [run.id]
    assert 'data-beside="no"' in chat.choice([run], [], run.id)


def test_a_whole_model_is_taken_away_as_one(forge):
    run = left(forge, task=SPAN, method="span", whole=True)
    code = export._code(run, "/there", whole=True)
    assert "AutoModelForQuestionAnswering.from_pretrained('/there')" in code
    path = routes.zipped(forge, run.id)
    try:
        with zipfile.ZipFile(path) as archive:
            assert f"{run.id}/config.json" in archive.namelist()
    finally:
        path.unlink()
    assert routes.path_name(forge, run.id).endswith("-model.zip")


def test_an_adapter_is_loaded_over_its_base(forge):
    run = left(forge, method="seq2seq")
    assert "AutoPeftModelForSeq2SeqLM" in export._code(run, "/there", whole=False)
    assert routes.path_name(forge, run.id).endswith("-adapter.zip")


def test_a_run_that_left_nothing_is_refused_in_words(forge):
    run = left(forge)
    shutil.rmtree(forge.folder(run.id).output)
    with pytest.raises(NotFoundError, match="has no model"):
        routes.zipped(forge, run.id)


def test_the_line_of_a_run_says_what_counts_for_it(forge):
    step = {"step": 5, "loss": 0.1, "stage": 2, "metrics": {"reward": 0.75, "kl": 0.01}}
    scores = {"rows": 3, "before": None, "after": {"perplexity": 9.0}}
    run = left(forge, method="rlhf", said=[("step", step), ("scores", scores)])
    assert table.worth(run) == ("mean reward", 0.75)
    told = run.as_dict()
    assert (told["stage"], told["scores"]["rows"], told["metrics"]["kl"]) == (2, 3, 0.01)


def test_the_line_of_a_run_on_preferences_says_the_margin(forge):
    held = {"step": 5, "loss": 0.4, "best": True, "metrics": {"rewards/margins": 0.3}}
    run = left(forge, method="dpo", said=[("eval", held)])
    assert table.worth(run) == ("held-out margin", 0.3)


def test_a_run_of_the_first_release_says_its_loss(forge):
    assert table.worth(left(forge))[0] in ("loss", "held-out loss")
