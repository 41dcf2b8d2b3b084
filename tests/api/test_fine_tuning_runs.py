"""OpenAI's own client against a real server: jobs on the starter, and a chat with the result."""

from __future__ import annotations

import os
import time

import pytest

from tests.api.test_fine_tuning import EXACT, as_jsonl
from tests.test_path import Server

openai = pytest.importorskip("openai")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

LIMIT_S = 900.0
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Peru": "Lima"}
ASKED = [[{"role": "user", "content": f"What is the capital of {land}?"}] for land in CAPITALS]
ANSWERS = [[{"role": "assistant", "content": f"{town}."}] for town in CAPITALS.values()]
NO = [{"role": "assistant", "content": "I do not know."}]
SUPERVISED = [{"messages": [*asked, *answer]} for asked, answer in zip(ASKED, ANSWERS, strict=True)]
PAIRS = [
    {"input": {"messages": asked}, "preferred_output": answer, "non_preferred_output": NO}
    for asked, answer in zip(ASKED, ANSWERS, strict=True)
]
PROMPTS = [
    {"messages": asked, "sum": town} for asked, town in zip(ASKED, CAPITALS.values(), strict=True)
]
SHORT = {"max_steps": 2, "eval_split": 0.25, "evaluation": {"samples": 0}}
GENERATE = {"num_generations": 2, "max_completion_length": 4}


@pytest.fixture
def server(home_with_starter):
    server = Server(home_with_starter)
    server.start()
    yield server
    server.end()


def wait_for(jobs, job, *statuses: str):
    deadline = time.monotonic() + LIMIT_S
    while (job := jobs.retrieve(job.id)).status not in statuses:
        assert job.status in ("queued", "running"), job.error
        assert time.monotonic() < deadline, f"{job.status}: {jobs.list_events(job.id).data[:3]}"
        time.sleep(0.5)
    return job


@pytest.mark.skipif(os.name == "nt", reason="the server is ended by a POSIX signal")
def test_three_methods_train_the_starter_and_the_result_is_served(server):
    address = f"http://127.0.0.1:{server.port}/v1"
    with openai.OpenAI(base_url=address, api_key="any", max_retries=0, timeout=120) as client:
        jobs = client.fine_tuning.jobs

        def create(rows, settings=None, **more):
            file = client.files.create(file=("rows.jsonl", as_jsonl(rows * 4)), purpose="fine-tune")
            extra = {"settings": SHORT | (settings or {})}
            return jobs.create(model="starter", training_file=file.id, extra_body=extra, **more)

        supervised = create(SUPERVISED, suffix="capitals")
        dpo = create(PAIRS, method={"type": "dpo"})
        method = {"type": "reinforcement", "reinforcement": {"grader": EXACT}}
        reinforcement = create(PROMPTS, {"trainer": GENERATE}, method=method)
        long = create(SUPERVISED, {"max_steps": 500})
        finished = [wait_for(jobs, each, "succeeded") for each in (supervised, dpo, reinforcement)]
        assert [each.method.type for each in finished] == ["supervised", "dpo", "reinforcement"]
        for each in finished:
            steps = [e.data["step"] for e in jobs.list_events(each.id) if e.type == "metrics"]
            assert max(steps) == 2
            assert each.trained_tokens is None or each.trained_tokens > 0
            assert next(iter(jobs.checkpoints.list(each.id))).step_number == 2
        wait_for(jobs, long, "running")
        jobs.cancel(long.id)
        assert wait_for(jobs, long, "cancelled").fine_tuned_model is None

    for name in (finished[0].fine_tuned_model, f"{finished[2].fine_tuned_model}:2"):
        server.call("POST", "/api/serving", {"what": name, "port": 0})
        server.until(lambda: server.call("GET", "/api/serving")["state"] == "on", 300, "it serves")
        key, view = server.call("GET", "/api/serving/key"), server.call("GET", "/api/serving")
        with openai.OpenAI(base_url=view["address"], api_key=key["key"], timeout=120) as chat:
            messages = [{"role": "user", "content": "What is the capital of France?"}]
            reply = chat.chat.completions.create(model=name, messages=messages, max_tokens=8)
        assert reply.choices[0].message.content
        server.call("DELETE", "/api/serving")
