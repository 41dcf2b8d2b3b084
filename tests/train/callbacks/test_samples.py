"""Samples over time: real tiny models answer prompts before, during and after training."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.events import iter_events
from modelforge.runs.samples import read_samples
from modelforge.runs.timeline import Timeline

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

MINE = ["What does red number 0 mean?", "Say something, please."]
FEW = {"sample_prompts": MINE, "sample_tokens": 12, "samples": 3}
EVALUATED = {"eval_split": 0.25, "eval_steps": 2, "max_steps": 3}


def samples_of(run):
    return read_samples(iter_events(run.events))


def base_answers(folder, prompts, tokens=12):
    """Return the tokens of the greedy answers of the model in a folder, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    answers = []
    for prompt in prompts:
        messages = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        with torch.no_grad():
            new = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=tokens, eos_token_id=[2], pad_token_id=2,
            )[0, ids.shape[1] :]  # fmt: skip
        answers.append([token for token in new.tolist() if token != 2])
    return answers


@pytest.fixture
def generated(monkeypatch):
    """The tokens of all sampled answers, one list per round."""
    from modelforge.train.callbacks import samples

    rounds, true = [], samples.generate_answers

    def recorded(*args):
        answers = true(*args)
        rounds.append([answer.ids for answer in answers])
        return answers

    monkeypatch.setattr(samples, "generate_answers", recorded)
    return rounds


@pytest.mark.parametrize(
    "adapter",
    [{}, {"use_dora": True}, {"init": "pissa"}, {"enabled": False}],
    ids=["lora", "dora", "pissa", "all"],
)
def test_step_0_is_the_base_model_and_later_steps_are_not(bench, generated, adapter):
    run = bench.prepare(**EVALUATED, learning_rate=0.05, adapter=adapter, evaluation=FEW)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    times = samples_of(run)
    assert [time.step for time in times] == [0, 2, 3]
    assert generated[0] == base_answers(bench.model, MINE)
    assert generated[-1] != generated[0]
    assert [answer.prompt for answer in times[2].answers] == MINE
    assert {answer.source for answer in times[0].answers} == {"yours"}
    assert times[0].eval_loss is None
    assert times[1].eval_loss != times[2].eval_loss
    assert all(0 < answer.tokens <= 12 for answer in times[0].answers)
    assert all(time.seconds > 0 for time in times)


def test_samples_are_evaluation_rows_and_one_general_prompt(bench):
    run = bench.prepare(**EVALUATED, evaluation={"samples": 3, "sample_tokens": 4})
    bench.work(run)
    answers = samples_of(run)[0].answers
    assert [answer.source for answer in answers] == ["evaluation", "evaluation", "general"]
    assert "means" in answers[0].expected
    assert "mean?" in answers[0].prompt
    assert all(answer.cut and answer.tokens == 4 for answer in answers)


def test_a_run_without_evaluation_is_sampled_before_and_after(bench):
    run = bench.prepare(max_steps=3, evaluation={"samples": 1, "sample_tokens": 3})
    bench.work(run)
    times = samples_of(run)
    assert [time.step for time in times] == [0, 3]
    assert [answer.source for answer in times[1].answers] == ["general"]


def test_sampling_changes_nothing_about_the_training(bench):
    runs = [
        bench.prepare(**EVALUATED, lora_dropout=0.2, evaluation={"samples": count})
        for count in (0, 2)
    ]
    finished = []
    for run in runs:
        (end,) = [event for event in bench.work(run) if event.kind == "finished"]
        finished.append((end.data["loss"], end.data["eval_loss"]))
    assert finished[0] == finished[1]
    assert not samples_of(runs[0])
    assert len(samples_of(runs[1])) == 3


PAIRS = [{"prompt": f"Number {n}?", "chosen": f"{n} it is.", "rejected": "No."} for n in range(12)]
METHODS = [
    {"strategy": "dpo"},
    {"strategy": "dpo", "trainer": {"preference_loss": "orpo"}},
    {"strategy": "dpo", "trainer": {"preference_loss": "kto"}},
    {
        "strategy": "rlhf",
        "trainer": {"max_completion_length": 4, "num_generations": 2, "reward": "length"},
    },
]


@pytest.mark.parametrize("settings", METHODS, ids=["dpo", "orpo", "kto", "rlhf"])
def test_preference_methods_sample_too(bench, write_rows, settings):
    bench.rows = write_rows(PAIRS)
    few = {"samples": 2, "sample_tokens": 4, "generated_rows": 2}
    run = bench.prepare(**settings, eval_split=0.25, eval_steps=2, max_steps=2, evaluation=few)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    times = samples_of(run)
    assert [time.step for time in times] == [0, 2]
    assert [answer.source for answer in times[1].answers] == ["evaluation", "general"]
    assert times[0].answers[0].prompt.startswith("Number")
    assert times[0].answers[0].expected.endswith("it is.")


def test_an_encoder_decoder_answers_documents(bench, write_rows, tiny_rewriter):
    rows = [{"document": f"Row {n} is a long text.", "summary": f"Row {n}."} for n in range(12)]
    bench.rows = write_rows(rows)
    run = bench.prepare(
        model_path=str(tiny_rewriter), kind="encoder-decoder", task="summarization",
        eval_split=0.25, eval_steps=2, max_steps=2, max_seq_length=64,
        evaluation={"samples": 2, "sample_tokens": 5, "generated_rows": 0},
    )  # fmt: skip
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    times = samples_of(run)
    assert [time.step for time in times] == [0, 2]
    assert [answer.source for answer in times[0].answers] == ["evaluation"] * 2
    assert times[0].answers[0].prompt.endswith("is a long text.")
    assert 0 < times[0].answers[0].tokens <= 5


def test_a_resumed_run_has_step_0_once_and_every_step_once(bench, at):
    from modelforge.runs.atomic_files import write_json
    from modelforge.runs.events import last_number

    settings = EVALUATED | {"max_steps": 6}
    run = bench.prepare(**settings, evaluation=FEW)
    at("on_step_end", 4, lambda: run.stop.write_text("keep"))
    bench.work(run)
    assert [time.step for time in samples_of(run)] == [0, 2]
    run.stop.unlink()
    write_json(run.process, {"after": last_number(run.events)})
    bench.work(run)
    steps = [e.data["step"] for e in iter_events(run.events) if e.kind == "samples"]
    assert steps.count(0) == 1
    assert [time.step for time in samples_of(run)] == [0, 2, 4, 6]


@pytest.mark.parametrize("when", [0, 2], ids=["before training", "at an evaluation"])
def test_a_stop_while_answers_are_generated_ends_the_run_soon(bench, monkeypatch, when):
    from modelforge.train.event_log import EventLog

    run = bench.prepare(**EVALUATED, evaluation={**FEW, "sample_tokens": 400})
    phase, seen = EventLog.phase, []

    def stopping(log, name, text, *, done=None, total=None):
        if name == "sampling":
            rounds = sum(1 for count in seen if count == 0)
            if done == 3 and rounds == (1 if when == 0 else 2):
                run.stop.write_text("keep")
            seen.append(done)
        return phase(log, name, text, done=done, total=total)

    monkeypatch.setattr(EventLog, "phase", stopping)
    events = bench.work(run)
    assert events[-1].kind == "stopped"
    assert events[-1].data["kept"] == (when > 0)
    assert [time.step for time in samples_of(run)] == ([] if when == 0 else [0])
    assert seen[-1] < 10


def test_an_error_while_answering_is_noted_and_the_run_goes_on(bench, monkeypatch):
    from modelforge.train.callbacks import samples

    def fail(*_args, **_kwargs):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(samples, "generate_answers", fail)
    run = bench.prepare(**EVALUATED, evaluation=FEW)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    notes = [e.data["text"] for e in events if e.kind == "note" and e.data["code"] == "not-sampled"]
    assert notes == ["The sample prompts could not be answered: CUDA out of memory"]


def test_a_trial_run_measures_the_sample_prompts(bench):
    run = bench.prepare(**EVALUATED, evaluation=FEW)
    record = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(record | {"trial_run": True}))
    (measured,) = [e.data for e in bench.work(run) if e.kind == "trial_run"]
    assert measured["sample_seconds"] > 0
    assert not samples_of(run)


def test_a_later_epoch_of_events_replaces_what_was_not_saved():
    records = [
        (1, "started", {"pid": 1, "birth": 1.0}),
        (2, "samples", {"step": 0, "answers": [{"prompt": "a", "text": "b", "tokens": 1}]}),
        (3, "plan", {"total_steps": 4, "epochs": 2.0}),
        (4, "eval", {"step": 2, "loss": 0.5}),
        (5, "samples", {"step": 2, "answers": [{"prompt": "a", "text": 3, "tokens": "x"}, 7]}),
        (6, "resumed", {"step": 1}),
        (7, "eval", {"step": 2, "loss": 0.25}),
        (8, "samples", {"step": 2, "answers": [], "seconds": 1.5}),
    ]
    from modelforge.runs.events import EventRecord

    timeline = Timeline().add_all(EventRecord(n, float(n), k, d) for n, k, d in records)
    from modelforge.runs.samples import sample_times

    times = sample_times(timeline)
    assert [(time.step, time.epoch, time.eval_loss) for time in times] == [
        (0, 0.0, None), (2, 1.0, 0.25),
    ]  # fmt: skip
    assert times[0].answers[0].text == "b"
    assert times[1].seconds == 1.5
