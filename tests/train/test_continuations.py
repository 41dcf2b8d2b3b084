"""What a model that is trained from nothing writes: beginnings that it continues."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from modelforge.runs.events import EventWriter, iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.samples import read_samples
from tests.train.tiny_trainer import tiny_llama, trainer_config, trainer_for

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
TEMPLATE = (Path(__file__).parents[2] / "assets/templates/chatml.jinja").read_text("utf-8")


@pytest.fixture(scope="module")
def tokenizer():
    from modelforge.modeling.pretraining.tokenizer import train_tokenizer

    rows = [f"The capital of the harbour is lamp number {n}." for n in range(50)]
    return train_tokenizer(rows, 270, context=64, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def model(tokenizer):
    from modelforge.config.pretraining.shape import Architecture, shape_of_depth
    from modelforge.modeling.pretraining.build import build_model

    shape = shape_of_depth(
        1, aspect_ratio=16, head_dim=16, vocab_size=len(tokenizer), context=64,
        architecture=Architecture.LLAMA,
    )  # fmt: skip
    return build_model(shape, zero_projections=False)


@pytest.fixture
def context(tmp_path):
    from modelforge.train.event_log import EventLog
    from modelforge.train.stop import Stop

    def made(length=64, **evaluation):
        run = RunFolder(tmp_path)
        plan = SimpleNamespace(max_length=length, device="cpu", start_from=None)
        config = trainer_config(evaluation=evaluation)
        job = SimpleNamespace(config=config, plan=plan, run=run, is_trial_run=False)
        log = EventLog(EventWriter(run.events))
        return SimpleNamespace(job=job, log=log, stop=Stop(run.stop))

    return made


def test_the_seven_beginnings_follow_the_document_token(context, tokenizer):
    from modelforge.config.sampling import BEGINNINGS
    from modelforge.train.continuations import continuation_sampler

    sampler = continuation_sampler(context(length=200), tokenizer)
    assert [each.prompt.text for each in sampler.prompts] == list(BEGINNINGS)
    assert len(BEGINNINGS) == 7
    for text, each in zip(BEGINNINGS, sampler.prompts, strict=True):
        assert each.prompt.input_ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(each.prompt.input_ids[1:]) == text
    assert set(sampler.setup.stop_ids) == {tokenizer.bos_token_id, tokenizer.eos_token_id}


def test_own_beginnings_replace_them_and_long_ones_are_left_out(context, tokenizer, tmp_path):
    from modelforge.train.continuations import continuation_sampler

    prompts = ["The harbour", "x" * 100]
    sampler = continuation_sampler(context(sample_prompts=prompts), tokenizer)
    assert [(each.prompt.text, each.source) for each in sampler.prompts] == [
        ("The harbour", "yours")
    ]
    (note,) = [e.data for e in iter_events(tmp_path / "events.jsonl") if e.kind == "note"]
    assert note["code"] == "samples-left-out"
    assert "64 tokens" in note["text"]
    assert continuation_sampler(context(samples=0), tokenizer) is None


def test_a_continuation_is_the_likeliest_token_each_time(context, tokenizer, model, tmp_path):
    import torch

    from modelforge.train.continuations import continuation_sampler

    sampler = continuation_sampler(context(sample_tokens=4, sample_prompts=["The"]), tokenizer)
    sampler.ask(model, 3)
    ids = [tokenizer.bos_token_id, *tokenizer("The")["input_ids"]]
    expected = []
    with torch.no_grad():
        for _ in range(4):
            token = int(model.eval()(torch.tensor([ids])).logits[0, -1].argmax())
            if token in sampler.setup.stop_ids:
                break
            expected.append(token)
            ids.append(token)
    (time,) = read_samples(iter_events(tmp_path / "events.jsonl"))
    text = tokenizer.decode(expected, skip_special_tokens=True).rstrip()
    assert (time.step, time.answers[0].text) == (3, text)


def test_samples_are_taken_every_n_steps_and_at_the_end(context, tmp_path):
    from modelforge.train.callbacks.samples import SampleCallback, Sampler
    from modelforge.train.continuations import continuation_sampler

    trainer = trainer_for(tiny_llama(), tmp_path / "trained", max_steps=5)
    made = context(sample_every=2, sample_tokens=2, sample_prompts=["w5 w6"])
    sampler = continuation_sampler(made, trainer.processing_class)
    assert isinstance(sampler, Sampler)
    trainer.add_callback(SampleCallback(sampler, trainer, lambda _state: None))
    trainer.train()
    times = read_samples(iter_events(tmp_path / "events.jsonl"))
    assert [time.step for time in times] == [0, 2, 4, 5]
