"""Parts of the training on several GPUs: batches, causes, stops and DeepSpeed's configuration."""

from __future__ import annotations

import json

import pytest

from modelforge.modeling.errors import WorkerError
from modelforge.runs.event_types import FailedEvent, NoteEvent
from modelforge.runs.events import EventWriter, read_events
from modelforge.runs.layout import RunFolder
from modelforge.train.ranks.rank import RankStop, event_file, is_lost_peer

pytestmark = pytest.mark.torch


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text("{}")
    folder.ranks.mkdir()
    return folder


@pytest.mark.parametrize(("rows", "batches"), [(16, 8), (15, 8), (13, 8), (12, 6), (1, 2)])
def test_all_processes_have_as_many_whole_batches(rows, batches):
    from torch.utils.data import BatchSampler, SequentialSampler

    from modelforge.train.trainer.ranks import WholeBatches

    sampler = BatchSampler(SequentialSampler(range(rows)), 2, drop_last=False)
    whole = list(WholeBatches(sampler, 2, row=rows))
    assert len(whole) == batches == len(WholeBatches(sampler, 2, row=rows))
    assert all(len(batch) == 2 for batch in whole)
    flat = [index for batch in whole for index in batch]
    # Every row once, in its order; what fills the end is the row without trained tokens.
    assert flat == [*range(rows), *[rows] * (2 * batches - rows)]


def test_the_row_that_fills_a_step_trains_nothing():
    from datasets import Dataset

    from modelforge.train.trainer.ranks import _with_untrained_row

    rows = Dataset.from_dict({"input_ids": [[5, 6], [7]], "labels": [[-100, 6], [7]]})
    filled = _with_untrained_row(rows)
    assert filled[:2] == rows[:]
    assert filled[2] == {"input_ids": [5, 6], "labels": [-100, -100]}


@pytest.mark.parametrize("has_adapter", [True, False])
def test_weights_are_found_by_their_names_in_the_saved_file(has_adapter, tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from modelforge.train.trainer.ranks import saved_names

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    if has_adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    model.save_pretrained(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    names, weights = saved_names(model), dict(model.named_parameters())
    trained = {name for name, weight in weights.items() if weight.requires_grad}
    assert trained == {names[stored] for stored in load_file(file)}
    assert all((weights[names[k]] == value).all() for k, value in load_file(file).items())


@pytest.mark.parametrize(
    ("text", "is_lost"),
    [
        ("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:2", True),
        ("NCCL error: remote process exited or there was a network error", True),
        ("don't know how to restore data location of torch.storage.UntypedStorage", False),
        ("CUDA out of memory", False),
    ],
)
def test_the_end_of_another_process_is_no_cause(text, is_lost):
    assert is_lost_peer(RuntimeError(text)) is is_lost
    assert not is_lost_peer(ValueError(text))


@pytest.mark.parametrize(
    ("codes", "cause", "words"),
    [
        ({1: -9}, "killed", "The process of GPU 2 of the run ended by the signal SIGKILL"),
        ({0: 1, 1: -11}, "segfault", "GPU 2 of the run ended by the signal SIGSEGV"),
        ({0: 3}, "rank-died", "GPU 1 of the run ended with the code 3"),
        ({}, "rank-died", "GPU 1 of the run ended with the code 1"),
    ],
)
def test_a_process_that_reports_nothing_is_explained_by_its_exit(run, codes, cause, words):
    from modelforge.train.ranks.launch import find_cause

    found = find_cause(run, codes)
    assert found.cause == cause
    assert words in found.what
    assert found.remedy


def test_what_a_process_reports_is_the_cause(run):
    from modelforge.train.ranks.launch import find_cause

    with EventWriter(event_file(run, 1)) as events:
        events.write(FailedEvent(cause="out-of-memory", what="It ran out.", remedy="Use less."))
    found = find_cause(run, {0: 1, 1: 1})
    assert found == FailedEvent(
        cause="out-of-memory", what="On GPU 2 of the run: It ran out.", remedy="Use less."
    )


def test_the_launcher_continues_the_numbers_of_the_first_process(run):
    with EventWriter(run.events) as launcher:
        launcher.write(NoteEvent(code="a", text="a"))
        with EventWriter(event_file(run, 0)) as first:
            first.write(NoteEvent(code="b", text="b"))
        launcher.catch_up()
        launcher.write(NoteEvent(code="c", text="c"))
    assert [record.n for record in read_events(run.events)[0]] == [1, 2, 3]


def test_all_processes_stop_at_the_batch_at_which_they_agree(run):
    class Group:
        def agree(self, mode):
            asked.append(mode)
            return "keep"  # another process was asked to stop

    asked: list[object] = []
    stop = RankStop(run.stop)
    stop.group = Group()
    run.stop.write_text("discard")
    assert stop.mode is None  # not before all know of it
    stop.agree()
    assert asked == ["discard"]
    assert stop.mode == "keep"


@pytest.mark.parametrize(("sharding", "stage"), [("zero1", 1), ("zero2", 2), ("zero3", 3)])
def test_deepspeed_gets_a_configuration_that_transformers_fills_in(sharding, stage):
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    from modelforge.train.trainer.sharding import deepspeed_config

    found = HfDeepSpeedConfig(deepspeed_config(sharding))
    assert found.is_zero2() is (stage == 2)
    assert found.is_zero3() is (stage == 3)
    names = ("gradient_accumulation_steps", "gradient_clipping", "train_micro_batch_size_per_gpu")
    assert {found.get_value(name) for name in (*names, "bf16.enabled", "fp16.enabled")} == {"auto"}
    # The result of the run is whole.
    gathers = found.get_value("zero_optimization.stage3_gather_16bit_weights_on_model_save", False)
    assert gathers is (stage == 3)


def test_a_checkpoint_that_deepspeed_divided_needs_as_many_gpus(tmp_path):
    from modelforge.train.resume import _require_whole

    folder = tmp_path / "checkpoint-4" / "global_step4"
    folder.mkdir(parents=True)
    for rank in range(2):
        (folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    _require_whole(folder.parent, 2)
    with pytest.raises(WorkerError, match="among 2 GPUs; this run has 1"):
        _require_whole(folder.parent, 1)
    _require_whole(tmp_path, 1)  # a whole one


def test_several_gpus_are_visible_from_the_first_one_on():
    from modelforge.config.visible_gpu import VISIBLE, visible_gpu

    assert visible_gpu(1, {}, count=2)[VISIBLE] == "1,2"
    named = {VISIBLE: "GPU-a,GPU-b,GPU-c"}
    assert visible_gpu(1, named, count=2)[VISIBLE] == "GPU-b,GPU-c"
    assert visible_gpu(3, named, count=2)[VISIBLE] == "-1"
    assert json.loads(json.dumps(visible_gpu(None, {})))[VISIBLE] == "-1"
