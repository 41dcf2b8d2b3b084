"""The front door, with real files and processes and stand-in workers."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from modelforge.config.resolve import Layer
from modelforge.errors import BlockedError, BusyError, ConfigError, NotFoundError, RunError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.states import RunState

ACTORS = Path(__file__).parents[1] / "actors"


@pytest.fixture
def forge(tmp_path):
    forge = opened(tmp_path / "home", "obeys")
    yield forge
    for view in forge.runs.views():
        forge.runs.stop(view.id)
        until(lambda: forge.runs.state(view.id).is_over, "the run is over")  # noqa: B023
    forge.close()


def opened(home: Path, actor: str) -> Forge:
    return Forge(Home(home), worker=[sys.executable, str(ACTORS / f"{actor}.py")])


def asked(model, data, **more):
    body = {
        "task": "text-generation",
        "model_name": str(model),
        "dataset": str(data),
        "compute_specs": "low_end",
        "use_4bit": False,
    }
    return Layer("request", body | more)


def until(holds, hope, limit_s=10.0):
    deadline = time.monotonic() + limit_s
    while not (seen := holds()):
        assert time.monotonic() < deadline, f"within {limit_s} s it never came true that {hope}"
        time.sleep(0.01)
    return seen


def test_a_run_is_started_watched_and_stopped(forge, model, data):
    run_id = forge.runs.start(asked(model, data), name="first")
    until(lambda: forge.runs.events(run_id)[0], "events come")
    view = forge.runs.view(run_id)
    assert view.name == "first"
    assert view.state in (RunState.STARTING, RunState.RUNNING)
    assert view.config["model_name"] == str(model)
    assert view.plan.max_length == 128  # what the model reads, not the profile's 512
    assert forge.runs.active() == run_id
    forge.runs.stop(run_id)
    until(lambda: forge.runs.state(run_id) is RunState.STOPPED, "the run is stopped")
    assert forge.runs.view(run_id).ending["kind"] == "stopped"
    assert "working" in forge.runs.log(run_id)
    assert forge.runs.active() is None


def test_a_run_has_the_name_the_model_and_the_data_of_its_settings(forge, model, data):
    settings = asked(model, data, logging={"run_name": "a name of my own"})
    run = forge.runs.folder(forge.runs.start(settings))
    record = json.loads(run.config.read_text("utf-8"))
    assert forge.runs.view(run.id).name == record["name"] == "a name of my own"
    assert record["plan"]["model_path"] == str(model)
    assert json.dumps(str(data)) in json.dumps(record["dataset"])


def test_without_a_name_it_is_called_after_its_data_and_its_model(forge, model, data):
    names = []
    for dataset in (data, "sample:captain"):
        run_id = forge.runs.start(asked(model, dataset))
        names.append(forge.runs.view(run_id).name)
        forge.runs.stop(run_id)
        until(lambda: forge.runs.state(run_id).is_over, "the run is over")  # noqa: B023
    assert names == [f"{data.stem} · {model.name}", f"The captain · {model.name}"]


def test_a_second_start_is_refused_with_the_holder_and_makes_nothing(forge, model, data):
    holder = forge.runs.start(asked(model, data))
    with pytest.raises(BusyError) as refused:
        forge.runs.start(asked(model, data))
    assert refused.value.holder == holder
    assert len(forge.runs.views()) == 1


def test_twenty_clicks_with_one_request_id_make_one_run(forge, model, data):
    ids, errors = [], []

    def click():
        try:
            ids.append(forge.runs.start(asked(model, data), request_id="click-1"))
        except BusyError as error:
            errors.append(error)

    threads = [threading.Thread(target=click) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(ids) == 20
    assert len(set(ids)) == 1
    assert len(forge.runs.views()) == 1


def test_another_server_sees_and_stops_the_run(forge, model, data, tmp_path):
    run_id = forge.runs.start(asked(model, data))
    second = opened(tmp_path / "home", "obeys")
    assert second.runs.active() == run_id
    second.runs.stop(run_id, keep=False)
    until(lambda: second.runs.state(run_id) is RunState.STOPPED, "the run is stopped")
    assert second.runs.view(run_id).ending["kept"] is False


def test_all_problems_of_answers_model_and_data_come_at_once(forge, tmp_path):
    checked = forge.preflight.check(asked(tmp_path / "no-model", tmp_path / "no-data"))
    assert {problem.where for problem in checked.problems} == {"model_name", "dataset"}
    assert not checked.ready
    wrong = forge.preflight.check(asked("m", "d", lora_r=0, warmup_ratio=2, colour="red"))
    assert {problem.where for problem in wrong.problems} == {"lora_r", "warmup_ratio", "colour"}


@pytest.mark.parametrize(
    ("more", "error"),
    [({"lora_r": 0}, ConfigError), ({"strategy": "dpo"}, BlockedError)],
)
def test_a_refused_start_leaves_no_trace(forge, model, data, more, error):
    with pytest.raises(error):
        forge.runs.start(asked(model, data, **more))
    assert forge.runs.views() == []
    assert not list(forge.home.runs.glob("*/"))


def test_holding_everything_out_is_refused_once_next_to_its_setting(forge, model, data):
    checked = forge.preflight.check(asked(model, data, eval_split=1))
    assert not checked.problems
    blockers = [found for found in checked.report.findings if found.level == "blocker"]
    assert [found.where for found in blockers] == ["eval_split"]
    assert blockers[0].suggested < 1


@pytest.mark.parametrize("part", ["name", "config", "origins", "plan", "dataset"])
@pytest.mark.parametrize("damage", [None, 5, [1]])
def test_one_damaged_run_does_not_hide_the_others(forge, model, data, part, damage):
    good = forge.runs.start(asked(model, data))
    bad = forge.home.runs / "20200101-000000-0000"
    bad.mkdir()
    record = json.loads(forge.runs.folder(good).config.read_text("utf-8"))
    (bad / "config.json").write_text(json.dumps(record | {part: damage}), "utf-8")
    assert [view.id for view in forge.runs.views()] == [good]
    with pytest.raises(RunError, match="damaged"):
        forge.runs.view(bad.name)


def test_a_worker_that_cannot_be_started_leaves_no_run(model, data, tmp_path):
    forge = Forge(Home(tmp_path / "home"), worker=[str(tmp_path / "no-such-program")])
    with pytest.raises(RunError, match="cannot be started"):
        forge.runs.start(asked(model, data))
    assert forge.runs.views() == []


def test_a_run_is_deleted_only_when_it_is_over(forge, model, data):
    run_id = forge.runs.start(asked(model, data))
    with pytest.raises(BusyError):
        forge.trash.delete([run_id])
    forge.runs.stop(run_id)
    until(lambda: forge.runs.state(run_id).is_over, "the run is over")
    forge.trash.delete([run_id])
    assert forge.runs.views() == []
    with pytest.raises(NotFoundError):
        forge.runs.view(run_id)


def test_chat_waits_while_a_run_holds_the_machine(forge, model, data):
    run_id = forge.runs.start(asked(model, data))
    with pytest.raises(BusyError) as refused:
        list(forge.chat.ask(str(model), [{"role": "user", "content": "hello"}]))
    assert refused.value.holder == run_id


def test_a_run_without_an_adapter_cannot_be_talked_to(forge, model, data):
    run_id = forge.runs.start(asked(model, data))
    forge.runs.stop(run_id)
    until(lambda: forge.runs.state(run_id).is_over, "the run is over")
    with pytest.raises(NotFoundError, match="has no model"):
        list(forge.chat.ask(run_id, [{"role": "user", "content": "hello"}]))


def test_a_look_is_taken_anew_when_the_file_changes(forge, data):
    assert forge.preflight.summarize(str(data)).rows == 20
    with data.open("a", encoding="utf-8") as file:
        file.write('\n{"input": "one more", "output": "yes"}\n')
    assert forge.preflight.summarize(str(data)).rows == 21


def test_what_is_prefilled_is_valid(forge, model, data):
    prefill = forge.layers.prefill()
    chosen = {"model_name": str(model), "dataset": str(data)}
    checked = forge.preflight.check(Layer(prefill.title, prefill.values), Layer("you", chosen))
    assert checked.ready, checked.problems
    assert checked.resolved.origins["lora_r"] == prefill.title
    assert checked.resolved.origins["model_name"] == "you"
    assert checked.resolved.origins["weight_decay"] == "contract"


def test_the_models_offered_begin_with_one_that_needs_no_network_in_practice(forge):
    offered = forge.layers.models()
    assert offered
    if forge.machine.current().practice_mode:
        assert offered[0]["name"] == "starter"
