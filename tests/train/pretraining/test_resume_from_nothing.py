"""A training from nothing that was ended and resumed is the one that was never ended."""

from __future__ import annotations

import shutil

import pytest

from modelforge.runs.atomic_files import write_json
from modelforge.runs.events import last_number, read_events
from tests.train.pretraining.conftest import prose

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


class Killed(BaseException):
    """As sudden as a kill: nothing of ours sees it."""


def kill() -> None:
    raise Killed


def reported(events, kind):
    return [event.data for event in events if event.kind == kind]


def points(events):
    """Return what was measured of each step, of the last worker that made it."""
    found = {}
    for event in events:
        if event.kind in ("step", "eval"):
            names = ("loss", "learning_rate", "tokens", "epoch", "metrics")
            found[event.kind, event.data["step"]] = {name: event.data.get(name) for name in names}
    return found


def weights(run) -> bytes:
    return (run.output / "model.safetensors").read_bytes()


def again(bench, run):
    run.stop.unlink(missing_ok=True)
    before = last_number(run.events)
    write_json(run.process, {"after": before})
    bench.work(run)
    return [event for event in read_events(run.events)[0] if event.n > before]


@pytest.fixture
def killed(bench, from_nothing, at):
    """Return a run that was killed at its eighth step of ten; it saved after the sixth."""

    def do(**settings):
        run = from_nothing(max_steps=10, **settings)
        at("on_step_end", 8, kill)
        with pytest.raises(Killed):
            bench.work(run)
        return run

    return do


@pytest.mark.parametrize("optim", ["normuon", "adamw_torch"])
def test_a_killed_run_resumes_at_the_same_token_and_ends_with_the_same_bytes(
    bench, from_nothing, killed, optim
):
    whole = from_nothing(max_steps=10, optim=optim)
    assert bench.work(whole)[-1].kind == "finished"
    run = killed(optim=optim)
    started = (run.start_model / "model.safetensors").read_bytes()
    events = again(bench, run)
    assert reported(events, "resumed")[0]["step"] == 6
    assert events[-1].kind == "finished"
    assert points(read_events(run.events)[0]) == points(read_events(whole.events)[0])
    assert weights(run) == weights(whole)
    assert weights(run) != started


def test_a_run_that_is_killed_in_its_second_pass_over_the_text_resumes_there(
    bench, from_nothing, killed, tmp_path
):
    short = tmp_path / "short.txt"
    short.write_text(prose(60), encoding="utf-8")
    whole = from_nothing(text=short, max_steps=10)
    assert bench.work(whole)[-1].kind == "finished"
    run = killed(text=short)
    assert again(bench, run)[-1].kind == "finished"
    curves = [points(read_events(each.events)[0]) for each in (run, whole)]
    assert curves[0] == curves[1]
    # The checkpoint of step 6 is in the second pass, and the end in the second or third.
    assert 1 < curves[0]["step", 6]["epoch"] < 2 < curves[0]["step", 10]["epoch"] + 1
    assert weights(run) == weights(whole)


def test_a_text_that_changed_before_a_resume_is_named(bench, killed, book):
    run = killed()
    shutil.rmtree(run.tokens)
    book.write_text(book.read_text("utf-8").replace("lamp", "lantern"), encoding="utf-8")
    (failed,) = reported(again(bench, run), "failed")
    assert failed["cause"] == "corpus-changed"
    assert "The text has changed since the checkpoint was saved" in failed["what"]
    assert failed["remedy"] == "Restore the files, or start a new run on the changed text."


def test_the_tokens_of_the_run_are_kept_so_that_a_changed_file_does_not_matter(
    bench, from_nothing, killed, book
):
    whole = from_nothing(max_steps=10)
    bench.work(whole)
    run = killed()
    book.write_text("Something else.\n" * 100, encoding="utf-8")
    events = again(bench, run)
    assert events[-1].kind == "finished"
    assert weights(run) == weights(whole)


def test_lost_token_files_are_made_again(bench, from_nothing, killed):
    whole = from_nothing(max_steps=10)
    bench.work(whole)
    run = killed()
    (run.tokens / "train.json").unlink()
    assert again(bench, run)[-1].kind == "finished"
    assert weights(run) == weights(whole)


def test_out_of_memory_splits_the_batch_with_the_same_bits_per_byte(
    bench, from_nothing, monkeypatch
):
    from modelforge.train.pretraining.trainer import _WindowLossMixin

    whole = from_nothing(max_steps=4)
    expected = points(bench.work(whole))
    true = {name: getattr(_WindowLossMixin, name) for name in ("compute_loss", "prediction_step")}

    def small(name):
        def limited(self, model, inputs, *args, **kwargs):
            if len(inputs["input_ids"]) > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB.")
            return true[name](self, model, inputs, *args, **kwargs)

        return limited

    for name in true:
        monkeypatch.setattr(_WindowLossMixin, name, small(name))
    run = from_nothing(max_steps=4)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert reported(events, "adjusted")[0]["micro_batch"] == 2
    for key, point in points(events).items():
        assert point["loss"] == pytest.approx(expected[key]["loss"], rel=1e-4)
        assert point["tokens"] == expected[key]["tokens"]
        if key[0] == "eval":
            bits = expected[key]["metrics"]["bits_per_byte"]
            assert point["metrics"]["bits_per_byte"] == pytest.approx(bits, rel=1e-4)


@pytest.mark.parametrize("module", ["start_model", "corpus"])
def test_a_run_that_is_stopped_while_it_reads_the_text_goes_on(
    bench, from_nothing, monkeypatch, module
):
    """A request to stop is an error inside the training of the tokenizer, written in Rust."""
    from importlib import import_module

    from modelforge.train.pretraining import corpus

    whole = from_nothing(max_steps=2)
    bench.work(whole)
    run = from_nothing(max_steps=2)

    reader = import_module(f"modelforge.train.pretraining.{module}")
    true = corpus.with_progress
    with monkeypatch.context() as patch:
        patch.setattr(reader, "with_progress", lambda *args: _stopping(run, true(*args)))
        assert bench.work(run)[-1].kind == "stopped"
    assert not run.has_result
    assert again(bench, run)[-1].kind == "finished"
    assert weights(run) == weights(whole)


def _stopping(run, texts):
    for text in texts:
        run.stop.write_text("keep", encoding="utf-8")
        yield text
