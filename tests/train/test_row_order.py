"""The order of training rows: as they stand in their file, or shuffled."""

from __future__ import annotations

import pytest

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

# Lengths that neither rise nor fall, so that grouping by length would be seen.
ROWS = [
    {"input": f"Row {n}?", "output": f"It is {n}" + " and so on" * (n * 5 % 7)} for n in range(12)
]
RUN = {"max_steps": -1, "num_train_epochs": 2, "group_by_length": True, "max_seq_length": 64}


@pytest.fixture
def trained(bench, write_rows, monkeypatch):
    """Do a run and return the numbers of its rows in the order in which they are trained."""
    from transformers import AutoTokenizer

    from modelforge.train.strategies.sft import SftTrainer

    original = SftTrainer.training_step

    def train(**settings) -> list[int]:
        texts: list[str] = []

        def record(trainer, model, inputs, *args):
            texts.extend(tokenizer.batch_decode(inputs["input_ids"]))
            return original(trainer, model, inputs, *args)

        bench.rows = write_rows(ROWS)
        tokenizer = AutoTokenizer.from_pretrained(bench.model)
        monkeypatch.setattr(SftTrainer, "training_step", record)
        events = bench.work(bench.prepare(**RUN | settings))
        assert events[-1].kind == "finished", events[-1].data
        # A packed row may go on in the next sequence.
        asked = [part.partition("?")[0] for part in "".join(texts).split("Row ")[1:]]
        return [int(number) for number in asked]

    return train


def test_rows_are_trained_in_their_order_when_they_are_not_shuffled(trained):
    assert trained(data={"shuffle": False}) == [*range(12)] * 2


def test_rows_are_shuffled_in_every_pass_otherwise(trained):
    order = trained()
    first, second = order[:12], order[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert list(range(12)) not in (first, second)


def test_packed_rows_keep_their_order(trained):
    order = trained(packing=True, data={"shuffle": False, "packing_strategy": "wrapped"})
    assert order == [*range(12)] * 2
