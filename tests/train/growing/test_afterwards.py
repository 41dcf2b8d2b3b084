"""What goes on from a model that has grown: Chat, an export, and growing further."""

from __future__ import annotations

import pytest

from modelforge.runs.exports import ExportRequest
from tests.train.growing.test_growing import config_of, grow

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture
def grown(bench):
    """A run that has added two layers, with adapters in the trunk."""
    run = grow(bench, progressive={"trunk": "lora"})
    assert bench.work(run)[-1].kind == "finished"
    return run


def test_it_can_be_talked_to(grown):
    from modelforge.chat.generate import ChatModel
    from modelforge.chat.requests import ChatRequest, LoadRequest
    from modelforge.config.sampling import Sampling

    chat = ChatModel()
    list(chat.load(LoadRequest(str(grown.output))))
    asked = [{"role": "user", "content": "What does red mean?"}]
    parts = list(chat.reply(ChatRequest(asked, Sampling(max_new_tokens=3, temperature=0.0))))
    assert parts[-1]["done"]["tokens"] == 3


def test_it_can_be_exported(grown, tmp_path):
    from tests.export.runs import exported

    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    grown.path.rename(home / "runs" / grown.id)
    folder = exported(home, ExportRequest(grown.id, "gguf", quantization="f16"))
    result = folder.result()
    assert result is not None
    assert result.state == "finished", result
    assert list(folder.files.glob("*.gguf"))


def test_it_can_grow_further(bench, grown):
    run = grow(bench, model_path=str(grown.output), progressive={"stages": 1})
    assert bench.work(run)[-1].kind == "finished"
    assert config_of(run.output).num_hidden_layers == 5


def test_it_is_evaluated_against_its_base_model(bench, grown):
    from tests.evaluate.conftest import evaluate

    report = evaluate(grown, bench.model, general=False)
    loss = next(metric for metric in report["metrics"] if metric["name"] == "loss")["contestants"]
    assert loss["tuned"]["value"] != loss["base"]["value"]
