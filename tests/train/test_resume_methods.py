"""Every kind of training goes on after a kill: the bytes are those of a run left in peace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.train.strategies.test_tasks import QA, documents, questions
from tests.train.test_resume import Killed, again, reported

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

ASKED: dict[str, Any] = {
    "max_steps": 6,
    "eval_split": 0.25,
    "eval_steps": 2,
    "learning_rate": 0.002,
    "evaluation": {"generated_rows": 0},
}
JUDGED = [
    {"prompt": f"What is {n}?", "completion": f"It is {n}." if n % 2 else "No", "label": n % 2 == 1}
    for n in range(16)
]


def weights(run) -> bytes:
    (file,) = run.output.glob("*model.safetensors")
    return file.read_bytes()


def seq2seq(bench, write_rows, tiny_rewriter, _tiny_reader) -> dict[str, Any]:
    bench.rows = write_rows(documents())
    settings = {
        "task": "summarization",
        "model_path": str(tiny_rewriter),
        "kind": "encoder-decoder",
    }
    return {**settings, "lora_dropout": 0.1}


def span(bench, write_rows, _tiny_rewriter, tiny_reader) -> dict[str, Any]:
    bench.rows = write_rows(questions())
    return {"task": QA, "model_path": str(tiny_reader), "kind": "encoder"}


def whole(_bench, *_given: Any) -> dict[str, Any]:
    return {"adapter": {"enabled": False}, "learning_rate": 1e-3}


def kto(bench, write_rows, *_given: Any) -> dict[str, Any]:
    bench.rows = write_rows(JUDGED)
    return {"strategy": "dpo", "trainer": {"preference_loss": "kto"}}


def eight_bit(_bench, *_given: Any) -> dict[str, Any]:
    return {"use_8bit": True}


@pytest.mark.parametrize("kind", [seq2seq, span, whole, kto, eight_bit], ids=lambda f: f.__name__)
def test_it_resumes_to_the_byte(bench, at, write_rows, tiny_rewriter, tiny_reader, kind):
    asked = ASKED | kind(bench, write_rows, tiny_rewriter, tiny_reader)
    left = bench.prepare(**asked)
    assert bench.work(left)[-1].kind == "finished"
    run = bench.prepare(**asked)
    at("on_step_end", 5, _kill)
    with pytest.raises(Killed):
        bench.work(run)
    events = again(bench, run)
    assert reported(events, "resumed")[0]["step"] == 4
    assert events[-1].kind == "finished", events[-1].data
    assert weights(run) == weights(left)


def _kill() -> None:
    raise Killed
