"""What goes on from a model that was trained from nothing: chat, preferences, rewards, GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelforge.data.checks.summary import summarize
from modelforge.runs.exports import ExportRequest
from tests.train.pretraining.conftest import prose

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
# All weights of a new model: `Teach it to chat`, with a rate for so small a model.
TAUGHT = {"strategy": "sft", "adapter": {"enabled": False}, "learning_rate": 0.01}


@pytest.fixture
def new_model(bench: Any, from_nothing: Any, tmp_path: Path) -> Path:
    """The result of a run from nothing that has read questions and answers as text."""
    text = tmp_path / "text.txt"
    rows = [json.loads(line) for line in bench.rows.read_text("utf-8").splitlines()]
    asked = "".join(f"{row['input']} {row['output']}\n" for row in rows)
    text.write_text(prose(300) + asked * 4, encoding="utf-8")
    group = {"total_batch_tokens": 1024}
    run = from_nothing(text=text, pretraining=group, max_seq_length=128, max_steps=20)
    assert bench.work(run)[-1].kind == "finished"
    return Path(run.output)


def source(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write rows, and return the record of a run on them."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = summarize(path)
    entry = {"files": [str(path)], "sha256": found.sha256, "rows": found.rows}
    return {"sources": [{**entry, "mapping": found.mapping.as_dict()}], "validation": []}


def test_taught_to_chat_it_answers_and_ends_its_turn(bench, new_model):
    from modelforge.chat.generate import ChatModel
    from modelforge.chat.requests import ChatRequest, LoadRequest
    from modelforge.config.sampling import Sampling

    run = bench.prepare(model_path=str(new_model), max_steps=150, **TAUGHT)
    assert bench.work(run)[-1].kind == "finished"
    template = (new_model / "chat_template.jinja").read_text("utf-8")
    assert (run.output / "chat_template.jinja").read_text("utf-8") == template
    assert "<|im_start|>" in template
    rows = [json.loads(line) for line in bench.rows.read_text("utf-8").splitlines()]
    chat = ChatModel()
    list(chat.load(LoadRequest(str(run.output))))
    right = 0
    for row in rows:
        asked = [{"role": "user", "content": row["input"]}]
        parts = list(chat.reply(ChatRequest(asked, Sampling(max_new_tokens=40, temperature=0.0))))
        assert parts[-1]["done"]["reason"] == "end"
        right += "".join(str(part.get("text", "")) for part in parts) == row["output"]
    assert right >= len(rows) / 2


def test_it_learns_from_preferences_and_from_rewards(bench, new_model, tmp_path):
    pairs = [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(12)
    ]
    record = source(tmp_path / "pairs.jsonl", pairs)
    reward = {"reward": "length", "num_generations": 2, "max_completion_length": 6}
    for more in ({"strategy": "dpo"}, {"strategy": "rlhf", "trainer": reward}):
        changes = {**TAUGHT, **more, "max_steps": 2}
        run = bench.prepare(model_path=str(new_model), dataset=record, **changes)
        assert bench.work(run)[-1].kind == "finished", run.log
        assert run.has_model


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_its_gguf_file_answers_like_it(bench, from_nothing, tmp_path, arch):
    from tests.export.runs import exported

    run = from_nothing(pretraining={"arch": arch}, max_steps=4)
    assert bench.work(run)[-1].kind == "finished"
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    run.path.rename(home / "runs" / run.id)
    folder = exported(home, ExportRequest(run.id, "gguf", quantization="f16"))
    result = folder.result()
    assert result is not None
    assert result.state == "finished", result
    assert list(folder.files.glob("*.gguf"))
    assert not (folder.files / "base_model.json").exists()
