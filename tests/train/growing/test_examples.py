"""Every example of Stack-Wise's guide runs on the CPU, with sizes that are cut down."""

from __future__ import annotations

import pytest

from modelforge.config.resolve import Layer, flatten, nest, resolve
from tests.config.importers.examples import example_files, read_example
from tests.train.conftest import Bench

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

NAMES = [path.stem for path in example_files("stack-wise")]
SENTENCE = "The {} fox number {} walked to the river and counted the stones in the cold water. "
ROWS = [
    {"text": SENTENCE.format(colour, number) * 12}
    for number, colour in enumerate(("red", "blue", "green", "amber") * 6)
]
# What makes a model, a stage and a step small.
SMALL_MODEL = {
    "pretraining.vocab_size": 290,
    "pretraining.tokenizer": "train",
    "pretraining.d_model": 16,
    "pretraining.n_heads": 4,
    "pretraining.d_ff": 32,
    "pretraining.depth": 2,
    "pretraining.total_batch_tokens": -1,
}
SMALL_STEP = {
    "max_seq_length": 32,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "eval_steps": 2,
    "eval_split": 0.25,
    "evaluation.samples": 0,
    "data.sources": [],
    "data.num_workers": 0,
    "trainer.save_steps": -1,
    "compute_specs": "low_end",
    "hardware.precision": "fp32",
}


def cut_down(recipe, rows):
    """Return the settings of an example with small sizes and other data."""
    values = flatten(recipe) | SMALL_STEP | {"dataset": str(rows)}
    values.pop("model.tokenizer", None)
    if values.get("pretraining.enabled"):
        values |= SMALL_MODEL
        if "pretraining.n_kv_heads" in values:
            values["pretraining.n_kv_heads"] = 2
        values.pop("pretraining.n_layers", None)
    else:
        values["model_name"] = "tiny"
    if values.get("progressive.enabled"):
        values["progressive.stages"] = min(2, values["progressive.stages"])
        values["progressive.layers_per_stage"] = 1
        if "progressive.steps_per_stage" in values:
            values["progressive.steps_per_stage"] = 2
    else:
        values["max_steps"] = 2
    return values


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_to_its_end(name, bench, tmp_path, tiny_model, write_rows):
    rows = write_rows(ROWS)
    settings = cut_down(read_example("stack-wise", name).recipe, rows)
    config = resolve(Layer("example", settings)).config
    del settings["dataset"]  # of the record, which the bench makes
    given = nest(settings) | {"max_steps": config.max_steps}
    run = Bench(tmp_path, tiny_model, rows).prepare(**given)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1]
    assert run.has_result
    stages = [event for event in events if event.kind == "growth"]
    assert len(stages) == (config.progressive.stages if config.progressive.enabled else 0)
