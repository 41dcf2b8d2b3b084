"""The windows of a training from nothing, in their order."""

from __future__ import annotations

from collections import Counter

import pytest

pytestmark = pytest.mark.torch

CONTEXT = 4


@pytest.fixture
def windows(tmp_path):
    from modelforge.modeling.pretraining.token_file import TokenWindows, write_token_file

    path = tmp_path / "train.bin"
    texts = [bytes(range(each, each + 10)).decode("latin-1") for each in range(0, 100, 10)]
    write_token_file(
        path,
        texts,
        lambda group: [list(text.encode("latin-1")) for text in group],
        document_id=200,
        vocab_size=256,
    )
    return TokenWindows(path, CONTEXT)


def first_tokens(dataset):
    return [int(dataset[index]["input_ids"][0]) for index in range(len(dataset))]


def test_each_pass_has_all_windows_in_an_order_of_its_own(windows):
    from modelforge.train.pretraining.windows import TrainingWindows

    count = len(windows)
    assert count == 27, "110 tokens, of which the last one is only predicted"
    training = TrainingWindows(windows, 7, 2 * count + 5)
    read = [training[index]["input_ids"].tolist() for index in range(len(training))]
    first, second = read[:count], read[count : 2 * count]
    whole = sorted(windows[index]["input_ids"].tolist() for index in range(count))
    assert sorted(first) == sorted(second) == whole
    assert first != second
    assert len(read[2 * count :]) == 5


def test_the_order_depends_on_the_seed_alone_and_not_on_the_length(windows):
    from modelforge.train.pretraining.windows import TrainingWindows

    short, long = TrainingWindows(windows, 7, 30), TrainingWindows(windows, 7, 60)
    assert first_tokens(short) == first_tokens(long)[:30]
    assert first_tokens(short) != first_tokens(TrainingWindows(windows, 8, 30))
    # A window in the middle is the same without those before it.
    assert (
        long[50]["shift_labels"].tolist()
        == TrainingWindows(windows, 7, 60)[50]["shift_labels"].tolist()
    )


def test_windows_behind_the_end_raise(windows):
    from modelforge.train.pretraining.windows import EvalWindows, TrainingWindows

    with pytest.raises(IndexError):
        TrainingWindows(windows, 7, 30)[30]
    with pytest.raises(IndexError):
        EvalWindows(windows, 3)[3]


def test_an_evaluation_is_spread_over_the_text(windows):
    from modelforge.train.pretraining.windows import EvalWindows

    some, every = EvalWindows(windows, 3), EvalWindows(windows, 1_000)
    assert first_tokens(some) == [int(windows[index]["input_ids"][0]) for index in (0, 9, 18)]
    assert first_tokens(every) == first_tokens(windows)


def test_a_selection_has_the_chosen_windows_and_their_lengths(windows):
    from modelforge.train.pretraining.windows import TrainingWindows
    from modelforge.train.trial_run.sampling import row_lengths

    training = TrainingWindows(windows, 7, 30)
    chosen = training.select([29, 3, 3])
    assert row_lengths(chosen, None) == [CONTEXT] * 3
    assert Counter(first_tokens(chosen)) == Counter(
        [first_tokens(training)[29], *[first_tokens(training)[3]] * 2]
    )


def test_a_batch_has_inputs_and_the_tokens_after_them(windows):
    from modelforge.train.pretraining.windows import collate

    batch = collate([windows[0], windows[2]])
    assert batch["input_ids"].shape == batch["shift_labels"].shape == (2, CONTEXT)
    assert batch["input_ids"][:, 1:].tolist() == batch["shift_labels"][:, :-1].tolist()


def test_several_processes_read_in_a_step_what_one_would_read():
    from types import SimpleNamespace

    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler, SequentialSampler

    from modelforge.train.strategies.pretraining import rows_per_step

    rows, steps, processes = 4, 3, 2
    args = SimpleNamespace(
        per_device_train_batch_size=rows, gradient_accumulation_steps=2, world_size=processes
    )
    count = steps * rows_per_step(args)
    batches = BatchSampler(SequentialSampler(range(count)), rows, drop_last=False)
    shares = [list(BatchSamplerShard(batches, processes, number)) for number in range(processes)]
    assert [len(share) for share in shares] == [2 * steps] * processes
    read = [
        sorted(row for share in shares for batch in share[2 * step : 2 * step + 2] for row in batch)
        for step in range(steps)
    ]
    assert read == [list(range(16 * step, 16 * step + 16)) for step in range(steps)]
