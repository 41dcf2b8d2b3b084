"""OpenAI's own client against /v1, with stand-in workers."""

from __future__ import annotations

import json

import pytest
import regex

from modelforge.api.fine_tuning.graders import read_grader
from modelforge.api.fine_tuning.requests import read_request
from modelforge.serving.requests import ApiError
from tests.api.conftest import until

openai = pytest.importorskip("openai")

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Question {n}?"},
            {"role": "assistant", "content": f"Answer {n}."},
        ]
    }
    for n in range(20)
]
PAIRS = [
    {
        "input": {"messages": [{"role": "user", "content": f"Question {n}?"}]},
        "preferred_output": [{"role": "assistant", "content": f"Answer {n}."}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    for n in range(20)
]
PROMPTS = [
    {"messages": [{"role": "user", "content": f"What is {n} + 1?"}], "sum": f"{n + 1}"}
    for n in range(20)
]
EXACT = {
    "type": "string_check",
    "name": "sum",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.sum}}",
}
SMALL = {"use_4bit": False}


def as_jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Door:
    """A client, and the server behind it."""

    def __init__(self, serving, worker: str, model) -> None:
        http = serving(worker)
        self.forge = serving.forge
        self.model = str(model)
        self.client = openai.OpenAI(
            base_url=f"{http.base_url}/v1", api_key="any", max_retries=0, timeout=30
        )
        self.jobs = self.client.fine_tuning.jobs

    def upload(self, rows: list[dict], name: str = "rows.jsonl"):
        return self.client.files.create(file=(name, as_jsonl(rows)), purpose="fine-tune")

    def create(self, file, settings=SMALL, **more):
        extra = {"settings": settings}
        return self.jobs.create(model=self.model, training_file=file.id, extra_body=extra, **more)

    def wait(self, job, *statuses: str):
        def reached() -> bool:
            self.forge.tend()
            return self.jobs.retrieve(job.id).status in statuses

        until(reached, f"The job is {self.jobs.retrieve(job.id).status}, not {statuses}.")
        return self.jobs.retrieve(job.id)


@pytest.fixture
def open_door(serving, model):
    doors = []

    def open_one(worker: str = "obeys") -> Door:
        doors.append(Door(serving, worker, model))
        return doors[-1]

    yield open_one
    for door in doors:
        for view in door.forge.runs.views():
            door.forge.runs.stop(view.id)
        door.client.close()


@pytest.fixture
def door(open_door):
    return open_door()


def test_a_file_is_uploaded_listed_returned_and_deleted(door):
    uploaded = door.upload(ROWS)
    assert (uploaded.filename, uploaded.purpose) == ("rows.jsonl", "fine-tune")
    assert uploaded.bytes == len(as_jsonl(ROWS))
    assert uploaded.id in [each.id for each in door.client.files.list()]
    assert door.client.files.retrieve(uploaded.id) == uploaded
    assert door.client.files.content(uploaded.id).read() == as_jsonl(ROWS)
    assert door.client.files.delete(uploaded.id).deleted is True
    with pytest.raises(openai.NotFoundError) as absent:
        door.client.files.retrieve(uploaded.id)
    assert absent.value.body["code"] == "not_found"


def test_bytes_without_a_name_are_jsonl_and_pages_follow_each_other(door):
    uploaded = door.client.files.create(file=as_jsonl(ROWS), purpose="fine-tune")
    assert uploaded.filename == "upload.jsonl"
    every = [each.id for each in door.client.files.list()]
    assert [each.id for each in door.client.files.list(limit=2)] == every
    assert len(set(every)) == len(every) > 2


@pytest.mark.parametrize(
    ("file", "purpose", "message"),
    [
        (("rows.jsonl", b""), "fine-tune", "rows.jsonl is empty"),
        (("rows.exe", b"x"), "fine-tune", "rows.exe is not"),
        (("rows.jsonl", b"{}"), "vision", "Use fine-tune"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(door, file, purpose, message):
    before = len(door.client.files.list().data)
    with pytest.raises(openai.BadRequestError, match=message):
        door.client.files.create(file=file, purpose=purpose)
    assert len(door.client.files.list().data) == before


def test_a_job_answers_auto_from_the_plan_and_finishes(open_door):
    door = open_door("finishes")
    job = door.create(door.upload(ROWS), suffix="sums", seed=7, metadata={"team": "a"})
    assert job.status in ("queued", "running", "succeeded")
    assert (job.seed, job.metadata) == (7, {"team": "a"})
    assert job.hyperparameters.learning_rate_multiplier == 1
    assert isinstance(job.hyperparameters.batch_size, int)
    assert job.hyperparameters.n_epochs > 0
    job = door.wait(job, "succeeded")
    assert job.finished_at >= job.created_at
    assert door.forge.runs.view(job.id.removeprefix("ftjob-")).name == "sums"
    messages = [each.message for each in door.jobs.list_events(job.id)]
    assert messages[0] == "The job has finished; the new model was created."
    assert messages[-1] == "The job was created."
    metrics = [each.data for each in door.jobs.list_events(job.id) if each.type == "metrics"]
    assert [each["step"] for each in metrics] == [3, 2, 1]
    assert metrics[-1]["train_loss"] == 1.0
    assert "loss" in door.client.files.content(job.result_files[0]).text


def test_hyperparameters_become_settings(door):
    numbers = {"n_epochs": 3, "batch_size": 6, "learning_rate_multiplier": 0.5}
    method = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    door.forge.queue.hold()
    job = door.create(door.upload(ROWS), method=method)
    assert {name: job.hyperparameters.to_dict()[name] for name in numbers} == numbers
    view = door.forge.runs.view(job.id.removeprefix("ftjob-"))
    assert view.config["num_train_epochs"] == 3
    assert view.plan.learning_rate == pytest.approx(0.5 * 5e-4)
    batch = view.config["per_device_train_batch_size"] * view.plan.gradient_accumulation_steps
    assert batch == 6


def test_pairs_are_trained_with_dpo(door):
    door.forge.queue.hold()
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": "auto"}}}
    job = door.create(door.upload(PAIRS), method=method)
    assert job.method.type == "dpo"
    assert job.method.dpo.hyperparameters.beta == 0.3
    view = door.forge.runs.view(job.id.removeprefix("ftjob-"))
    assert view.config["strategy"] == "dpo"


def test_a_grader_of_a_field_rewards_exact_answers(door):
    door.forge.queue.hold()
    numbers = {"batch_size": 2, "compute_multiplier": 0.5}
    method = {
        "type": "reinforcement",
        "reinforcement": {"grader": EXACT, "hyperparameters": numbers},
    }
    checked = door.upload(PROMPTS[:10], "checked.jsonl")
    job = door.create(door.upload(PROMPTS), method=method, validation_file=checked.id)
    config = door.forge.runs.view(job.id.removeprefix("ftjob-")).config
    assert config["strategy"] == "rlhf"
    assert config["trainer"]["reward"] == "exact-match"
    (source,) = config["data"]["sources"]
    assert (source["instruction_field"], source["output_field"]) == ("messages", "sum")
    assert job.validation_file == checked.id
    assert job.hyperparameters.batch_size == 2


def test_rows_without_the_field_of_the_grader_are_refused(door):
    grader = EXACT | {"reference": "{{item.total}}"}
    method = {"type": "reinforcement", "reinforcement": {"grader": grader}}
    with pytest.raises(openai.BadRequestError, match="without the field 'total'") as refused:
        door.create(door.upload(PROMPTS), method=method)
    assert refused.value.body["param"] == "training_file"
    assert door.forge.runs.views() == []


@pytest.mark.parametrize(
    ("operation", "reference", "right", "wrong"),
    [
        ("eq", "a.b", "a.b", "axb"),
        ("ne", "no", "yes", "no"),
        ("like", "(x)", "one (x) two", "x"),
        ("ilike", "yes", "Oh YES", "no"),
    ],
)
def test_a_grader_of_a_fixed_text_is_a_pattern(operation, reference, right, wrong):
    reward = read_grader(EXACT | {"operation": operation, "reference": reference})
    pattern = regex.compile(reward.settings["trainer.reward_pattern"])
    assert pattern.search(right)
    assert not pattern.search(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "python"},
        {"type": "score_model"},
        {"type": "text_similarity"},
        {"type": "multi"},
        {"type": "new"},
        {"input": "{{item.sum}}"},
        {"operation": "like"},
        {"operation": "near"},
        {"reference": "The sum is {{item.sum}}."},
        {"reference": " "},
    ],
    ids=str,
)
def test_a_grader_without_a_reward_is_refused_with_what_is_possible(change):
    with pytest.raises(ApiError, match="Possible are string_check") as refused:
        read_grader(EXACT | change)
    assert refused.value.status == 400


def test_a_job_that_would_not_fit_is_answered_with_the_findings(door):
    blocked = SMALL | {"data": {"loss_on": "assistant"}}
    texts = [{"text": f"tale {n}"} for n in range(20)]
    with pytest.raises(openai.BadRequestError) as refused:
        door.create(door.upload(texts), settings=blocked)
    body = refused.value.body
    assert body["code"] == "preflight_blocked"
    (finding,) = [each for each in body["findings"] if each["level"] == "blocker"]
    assert finding["code"] == "no-assistant-turns"
    assert finding["what"] in body["message"]
    assert door.forge.runs.views() == []
    assert door.forge.queue.view().runs == []


def test_a_plan_gives_the_hash_that_a_job_may_require(door):
    door.forge.queue.hold()
    file = door.upload(ROWS)
    body = {"model": door.model, "training_file": file.id, "settings": SMALL}
    planned = door.client.post("/fine_tuning/plans", body=body, cast_to=object)
    assert planned["ready"] is True
    assert planned["memory"]
    assert planned["hyperparameters"]["batch_size"] > 0
    assert door.forge.runs.views() == []
    seen = {"plan_hash": planned["plan_hash"]}
    with pytest.raises(openai.BadRequestError) as stale:
        door.create(file, settings=SMALL | {"lora_r": 8}, metadata=seen)
    assert (stale.value.body["code"], stale.value.body["param"]) == (
        "stale_plan",
        "metadata.plan_hash",
    )
    assert door.forge.runs.views() == []
    assert door.create(file, metadata=seen).metadata == seen


def test_jobs_are_listed_by_metadata_and_in_pages(door):
    door.forge.queue.hold()
    file = door.upload(ROWS)
    ids = [door.create(file, metadata={"n": str(n % 2)}).id for n in range(3)]
    assert [each.id for each in door.jobs.list(limit=2)] == ids[::-1]
    assert [each.id for each in door.jobs.list(metadata={"n": "0"})] == [ids[2], ids[0]]
    assert list(door.jobs.list(metadata={"n": "9"})) == []


def test_a_waiting_job_is_paused_resumed_and_cancelled(door):
    door.forge.queue.hold()
    job = door.create(door.upload(ROWS))
    assert job.status == "queued"
    assert door.jobs.pause(job.id).status == "paused"
    assert door.jobs.resume(job.id).status == "queued"
    assert door.jobs.cancel(job.id).status == "cancelled"
    door.forge.queue.release()
    door.forge.tend()
    assert door.jobs.retrieve(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled, so it cannot be resumed"):
        door.jobs.resume(job.id)
    with pytest.raises(openai.BadRequestError, match="is cancelled, so it cannot be cancelled"):
        door.jobs.cancel(job.id)


def test_a_job_in_progress_is_paused_resumed_and_cancelled(door):
    job = door.wait(door.create(door.upload(ROWS)), "running")
    door.jobs.pause(job.id)
    assert door.wait(job, "paused").fine_tuned_model is None
    assert door.jobs.resume(job.id).status in ("queued", "running")
    door.wait(job, "running")
    door.jobs.cancel(job.id)
    assert door.wait(job, "cancelled").error is None


def test_a_paused_job_is_cancelled_also_while_it_waits_to_be_resumed(door):
    job = door.wait(door.create(door.upload(ROWS)), "running")
    door.jobs.pause(job.id)
    door.wait(job, "paused")
    door.forge.queue.hold()
    assert door.jobs.resume(job.id).status == "queued"
    assert door.jobs.cancel(job.id).status == "cancelled"
    assert door.forge.queue.view().runs == []
    with pytest.raises(openai.BadRequestError, match="is cancelled, so it cannot be resumed"):
        door.jobs.resume(job.id)


def test_a_failed_job_says_why(open_door):
    door = open_door("fails")
    job = door.wait(door.create(door.upload(ROWS)), "failed")
    assert job.error.code == "out-of-memory"
    assert "The GPU is full." in job.error.message
    assert next(iter(door.jobs.list_events(job.id))).level == "error"


def test_checkpoints_of_a_job_are_listed(open_door):
    door = open_door("saves")
    job = door.wait(door.create(door.upload(ROWS)), "failed")
    found = list(door.jobs.checkpoints.list(job.id))
    assert [each.step_number for each in found] == [3, 2, 1]
    assert found[0].metrics.train_loss == pytest.approx(1 / 3)
    assert found[0].fine_tuning_job_id == job.id


BODY = {"model": "m", "training_file": "file-rows.jsonl"}
WRONG = [
    ({"seed": "7"}, "seed", "whole number"),
    ({"suffix": "x" * 65}, "suffix", "1 to 64"),
    ({"metadata": {"a": 1}}, "metadata", "16 pairs"),
    ({"integrations": [{"type": "wandb"}]}, "integrations", "logging.report_to"),
    ({"method": {"type": "other"}}, "method.type", "supervised, dpo, reinforcement"),
    ({"method": {"type": "dpo", "dpo": [1]}}, "method.dpo", "object"),
    ({"training_file": None}, "training_file", "must be a text"),
    ({"model": ""}, "model", "must be a text"),
    ({"settings": [1]}, "settings", "object"),
    ({"hyperparameters": [1]}, "method.supervised.hyperparameters", "object"),
    (
        {"hyperparameters": {"n_epochs": 0}},
        "method.supervised.hyperparameters.n_epochs",
        "whole number from 1",
    ),
    (
        {"hyperparameters": {"learning_rate_multiplier": True}},
        "method.supervised.hyperparameters.learning_rate_multiplier",
        "above 0",
    ),
    (
        {"hyperparameters": {"beta": 0.1}},
        "method.supervised.hyperparameters.beta",
        "possible are n_epochs",
    ),
]


@pytest.mark.parametrize(("change", "param", "message"), WRONG, ids=str)
def test_a_wrong_value_is_named_with_what_is_possible(change, param, message):
    assert read_request(BODY).method == "supervised"
    with pytest.raises(ApiError, match=message) as refused:
        read_request(BODY | change)
    assert refused.value.body["error"]["param"] == param


def test_values_that_no_run_can_have_create_nothing(door):
    body = {"model": door.model, "training_file": door.upload(ROWS).id, "settings": SMALL}
    for change, param, message in (
        ({"settings": {"lora_rank": 3}}, "lora_rank", "lora_r"),
        ({"model": "no/such-model"}, "model", "no/such-model"),
        ({"seed": -1}, "seed", "from 0"),
        (
            {
                "settings": {"trainer": {"num_generations": "many"}},
                "hyperparameters": {"n_epochs": 1},
            },
            "trainer.num_generations",
            "many",
        ),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement.grader", "is missing"),
        ({"validation_file": "file-none"}, "file", "There is no file"),
    ):
        with pytest.raises(openai.APIStatusError, match=message) as refused:
            door.client.post("/fine_tuning/jobs", body=body | change, cast_to=object)
        assert 400 <= refused.value.status_code < 500
        assert refused.value.body["param"] == param
    assert door.forge.runs.views() == []


def test_unknown_files_jobs_and_addresses_are_not_found(door):
    for act in (
        lambda: door.jobs.retrieve("ftjob-none"),
        lambda: door.jobs.create(model=door.model, training_file="file-none"),
        lambda: door.client.files.content("file-../../etc/passwd"),
        door.client.models.list,
    ):
        with pytest.raises(openai.NotFoundError):
            act()
