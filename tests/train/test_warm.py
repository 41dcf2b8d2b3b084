"""Questions about data, answered by a real spare: tokens, lengths, fetching, and a run after."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.data.sources.load import dataset_record, load_sources
from modelforge.errors import BusyError, DataError, NotFoundError
from modelforge.paths import Home
from modelforge.runs.atomic_files import read_json
from modelforge.runs.events import read_events
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.states import RunState
from modelforge.runs.store import NewRun, Store

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

WAIT_S = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def warm(home):
    made = WarmWorker(home, available_gib=lambda: 64.0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def rows(home) -> Path:
    path = home.root / "rows.jsonl"
    pairs = [{"input": f"Which {n}?", "output": f"Number {n}. " * n} for n in range(1, 41)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


@pytest.fixture
def probe(home, rows, tiny_model):
    def make(kind: str, *, path: Path = rows, **more: Any) -> dict[str, Any]:
        settings = more.pop("settings", {})
        config = TrainingConfig(
            **{
                "task": "text-generation",
                "model_name": "tiny",
                "dataset": str(path),
                "compute_specs": "low_end",
                "use_4bit": False,
                **settings,
            }
        )
        supplies = load_sources(config.sources(), home)
        return {
            "kind": kind,
            "config": config.explicit_values(),
            "plan": make_plan(config, PlanContext("cpu", str(tiny_model), context=512)).as_dict(),
            "dataset": dataset_record(supplies),
            **more,
        }

    return make


def test_a_row_is_shown_as_tokens(warm, probe):
    page = warm.ask(probe("tokens", row=2, count=1), WAIT_S)
    (row,) = page["rows"]
    text = "".join(piece["text"] for piece in row["pieces"])
    assert "Which 3?" in text
    learned = "".join(p["text"] for p in row["pieces"] if p["role"] in ("trained", "end"))
    assert learned == "Number 3. Number 3. Number 3. <|im_end|>"
    assert page["totals"] == row["totals"]
    assert page["totals"]["end"] == 1


def test_several_rows_are_a_batch_with_padding_and_are_answered_at_once(warm, probe):
    warm.ask(probe("tokens"), WAIT_S)
    began = time.monotonic()
    page = warm.ask(probe("tokens", row=0, count=3), WAIT_S)
    assert time.monotonic() - began < 1.0  # the tokenizer is kept
    assert len({len(row["pieces"]) for row in page["rows"]}) == 1
    assert page["totals"]["pad"] > 0


def test_another_template_in_one_question_is_not_in_the_next(warm, probe):
    other = warm.ask(probe("tokens", settings={"model": {"chat_template": "gemma"}}), WAIT_S)
    assert any("<start_of_turn>" in _text(row) for row in other["rows"])
    assert other["notes"][0]["code"] == "end-token-put"
    own = warm.ask(probe("tokens"), WAIT_S)
    assert "<|im_start|>" in _text(own["rows"][0])
    assert own["notes"] == []


def test_a_repaired_tokenizer_is_loaded_again(warm, probe, tiny_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    asked = probe("tokens", row=2, count=1)
    asked["plan"] |= {"model_path": str(model)}
    before = warm.ask(asked, WAIT_S)["rows"]
    template = model / "chat_template.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert warm.ask(asked, WAIT_S)["rows"] != before


def test_a_missing_row_is_an_error_and_the_next_probe_is_answered(warm, probe):
    with pytest.raises(DataError, match=r"rows\.jsonl has no usable row 40, counted from 0"):
        warm.ask(probe("tokens", row=40), WAIT_S)
    with pytest.raises(DataError, match="There is no source 3"):
        warm.ask(probe("tokens", source=3), WAIT_S)
    with pytest.raises(DataError, match="Unknown kind of probe"):
        warm.ask(probe("dance"), WAIT_S)
    assert warm.ask(probe("tokens"), WAIT_S)["rows"]


def test_an_unexpected_error_in_a_probe_leaves_the_worker_warm(warm, probe):
    pid = warm.pid
    from modelforge.errors import RunError

    with pytest.raises(RunError, match=r"logs/spare\.log"):
        warm.ask({"kind": "tokens"}, WAIT_S)
    assert warm.ask(probe("tokens"), WAIT_S)["rows"]
    assert warm.pid == pid


def test_lengths_are_a_histogram_with_shares(warm, probe):
    heard: list[Any] = []
    reported = warm.ask(probe("lengths", settings={"max_seq_length": 100}), WAIT_S, heard.append)
    assert reported["rows"] == sum(count for _, count in reported["histogram"]) == 40
    assert reported["histogram"][-1][0] >= reported["longest"] > reported["mean"] > 0
    assert 0 < reported["truncated"] < 1
    assert 0 < reported["trained"] < 1
    assert heard[-1]["total"] == 5000
    few = warm.ask(probe("lengths", most=7), WAIT_S)
    assert few["rows"] == 7


def test_an_invalid_template_file_is_reported_with_its_line(warm, probe, tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}\n{{ m['content' }}\n{% endfor %}", encoding="utf-8")
    with pytest.raises(DataError, match=r"chat_template.*at line 2"):
        warm.ask(probe("tokens", settings={"model": {"chat_template": str(path)}}), WAIT_S)


def test_a_download_without_a_network_reports_it(warm):
    with pytest.raises(DataError, match=r"cannot be reached.*nobody/nothing"):
        warm.ask({"kind": "fetch", "name": "nobody/nothing", "split": "train"}, WAIT_S)
    with pytest.raises(DataError, match="not the name of a dataset on the Hub"):
        warm.ask({"kind": "fetch", "name": "../../etc/passwd", "split": "train"}, WAIT_S)


def test_a_download_from_a_storage_that_cannot_be_reached_reports_it(warm):
    probe = {"kind": "fetch_remote", "address": "gs://bucket/rows.jsonl"}
    with pytest.raises(DataError, match=r"Google Cloud Storage .*gs://bucket/rows\.jsonl"):
        warm.ask(probe, WAIT_S)


def test_a_downloaded_dataset_opens_as_a_source(home, tmp_path, monkeypatch):
    from modelforge.train.tools.fetch_dataset import HubDataset, fetch

    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    lines = [json.dumps({"question": f"Q{n}", "answer": f"A{n}"}) for n in range(2500)]
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # where the loader finds a folder of that name, it takes it
    heard: list[dict[str, Any]] = []
    reported = fetch(
        HubDataset("owner/name", None, "train"), home, lambda **facts: heard.append(facts)
    )
    assert (reported["rows"], reported["columns"]) == (2500, ["question", "answer"])
    assert [facts["done"] for facts in heard[1:]] == [1000, 2000, 2500]
    (supply,) = load_sources([Source(path="hub:owner/name")], home)
    assert (supply.rows, supply.mapping.kind) == (2500, "pair")
    sliced = fetch(HubDataset("owner/name", None, "train[:10]"), home, lambda **_: None)
    assert sliced["rows"] == 10
    with pytest.raises(NotFoundError, match="has no split nights"):
        fetch(HubDataset("owner/name", None, "nights"), home, lambda **_: None)
    with pytest.raises(NotFoundError, match="has no configuration fr"):
        fetch(HubDataset("owner/name", "fr", "train"), home, lambda **_: None)
    assert not [path for path in Path(reported["path"]).parent.iterdir() if path.name[0] == "."]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("Dataset 'a/b' is a gated dataset on the Hub. Visit the page to ask.", "is gated"),
        ("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.", "There is no dataset"),
        ("Dataset scripts are no longer supported, but found b.py", "loaded by its own code"),
        ("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)", "cannot be reached"),
        ("Config name is missing. Please pick one among: ['en', 'fr']", "Available: en, fr"),
    ],
)
def test_errors_of_the_hub_loader_are_explained(text, settings):
    from datasets.exceptions import DatasetNotFoundError

    from modelforge.train.tools.fetch_dataset import HubDataset, explain_hub_error

    assert settings in str(
        explain_hub_error(HubDataset("a/b", None, "train"), DatasetNotFoundError(text))
    )


def started(home: Home, warm: WarmWorker, settings: dict[str, Any]) -> Any:
    """Start a run of one update in the spare and wait for its end."""
    run = Store(home).create(
        NewRun("now", settings["config"], plan=settings["plan"], dataset=settings["dataset"])
    )
    supervisor = Supervisor(home)
    pid = warm.pid
    supervisor.start(run, warm)
    record = read_json(run.process)
    assert (record["pid"], record["spare"]) == (pid, True)
    deadline = time.monotonic() + 90
    while supervisor.state(run) is not RunState.FINISHED and time.monotonic() < deadline:
        time.sleep(0.1)
    kinds = [event.kind for event in read_events(run.events)[0]]
    assert kinds[-1] == "finished", run.log.read_text()
    assert kinds.count("started") == 1
    return run


def test_a_run_takes_the_warm_worker_during_a_probe_and_trains(home, warm, probe, rows):
    """Comes late: the spare is the run's from here on."""
    large = home.root / "large.jsonl"
    large.write_bytes(rows.read_bytes() * 3000)
    asked = probe("lengths", path=large, most=10**6)
    warm.ask(probe("tokens"), WAIT_S)
    heard = threading.Event()
    raised: list[Exception] = []

    def ask() -> None:
        try:
            warm.ask(asked, WAIT_S, lambda _facts: heard.set())
        except BusyError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert heard.wait(60)
    run = started(home, warm, probe("tokens", settings={"max_steps": 1, "eval_split": 0}))
    asking.join(30)
    assert [error.holder for error in raised] == [run.id]


# Rendering it takes longer than its limit allows.
ENDLESS = "{% for a in range(90000) %}{% for b in range(90000) %}{{ b }}{% endfor %}{% endfor %}"


def test_a_probe_that_does_not_end_is_abandoned_by_the_run(home, warm, probe):
    template = home.root / "endless.jinja"
    template.write_text(ENDLESS, encoding="utf-8")
    asked = probe("tokens", settings={"model": {"chat_template": str(template)}})
    warm.ask(probe("tokens"), WAIT_S)
    raised: list[Exception] = []

    def ask() -> None:
        try:
            warm.ask(asked, WAIT_S)
        except BusyError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    worker = psutil.Process(warm.pid)
    before = worker.cpu_times().user
    while worker.cpu_times().user < before + 0.3:  # it renders
        time.sleep(0.02)
    started(home, warm, probe("tokens", settings={"max_steps": 1, "eval_split": 0}))
    asking.join(30)
    assert len(raised) == 1


def _text(row: dict[str, Any]) -> str:
    return "".join(piece["text"] for piece in row["pieces"])
