"""Messages of libraries become a cause and a remedy.

The messages in `data/words_of_failures.json` are those of the installed libraries.
`tests/train/test_causes_for_real.py` provokes those that a CPU can raise; the others are from
c10/cuda and torch/cuda (GPUs and drivers), huggingface_hub/utils/_http.py and
transformers/utils/hub.py (the Hub), bitsandbytes/cextension.py, and from Python, Linux and Windows
at the end of a process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from modelforge.config.resolve import Layer, resolve
from modelforge.diagnosis.classify import CATALOGUE, cause_of, diagnose_exit, match_text, signal_of
from modelforge.diagnosis.fixes import fix_action

DATA = Path(__file__).parent / "data"
WORDS = json.loads((DATA / "words_of_failures.json").read_text(encoding="utf-8"))
SAID = [(text, code) for code, texts in WORDS.items() for text in texts]
# Lines that a healthy run prints; some hold numbers and words of the catalogue.
ORDINARY = (DATA / "ordinary_lines.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("text", "code"), SAID, ids=[f"{code}-{n}" for n, (_, code) in enumerate(SAID)]
)
def test_the_messages_of_a_library_have_their_cause(text: str, code: str) -> None:
    entry = match_text(text)
    assert entry is not None
    assert entry.code == code


@pytest.mark.parametrize("line", ORDINARY)
def test_the_output_of_a_healthy_run_has_no_cause(line: str) -> None:
    assert match_text(line) is None


def test_every_entry_is_found_by_a_message_or_by_its_code() -> None:
    assert len({entry.code for entry in CATALOGUE}) >= 40
    tried = {code for _text, code in SAID}
    untried = {entry.code for entry in CATALOGUE if entry.patterns} - tried
    assert untried == set()


def test_every_entry_has_whole_sentences() -> None:
    for entry in CATALOGUE:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.code), entry.code
        assert entry.what.endswith("."), entry.code
        assert entry.remedy.endswith("."), entry.code
        assert entry.where, entry.code


RUN = {"task": "text-generation", "model_name": "m", "dataset": "d", "compute_specs": "low_end"}
RUNS = [
    RUN,
    RUN | {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 3},
    RUN | {"gradient_checkpointing": False},
    RUN | {"max_seq_length": 4096, "fp16": True, "use_4bit": True},
    RUN | {"strategy": "qlora", "use_8bit": True, "use_4bit": False, "bf16": True},
    RUN | {"adapter": {"target_modules": "nonsense", "init": "pissa"}, "use_4bit": False},
    RUN | {"hardware": {"precision": "fp16"}, "model": {"attn_implementation": "eager"}},
    RUN | {"provider": "unsloth", "max_seq_length": 512},
    RUN
    | {
        "model_name": "",
        "adapter": {"enabled": False},
        "pretraining": {"enabled": True},
        "optim": "muon",
        "optimizer": {"matrix_lr": 0.02},
    },
]


@pytest.mark.parametrize("settings", RUNS)
def test_every_fix_makes_valid_settings(settings: dict[str, object]) -> None:
    tried = 0
    for entry in CATALOGUE:
        action = fix_action(entry.fix, settings)
        if action is None or "settings" not in action:
            continue
        tried += 1
        before = resolve(Layer("run", settings)).config
        after = resolve(Layer("run", settings), Layer("remedy", action["settings"])).config
        assert (before != after) == bool(action["settings"]), entry.code
    assert tried > 10


def test_less_memory_keeps_the_effective_batch_then_uses_slower_options() -> None:
    def patch(**settings: object) -> dict[str, object]:
        action = fix_action("less-memory", RUN | settings)
        return action["settings"] if action else {}

    assert patch(per_device_train_batch_size=8, gradient_accumulation_steps=2) == {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
    }
    odd = patch(per_device_train_batch_size=3, gradient_accumulation_steps=1)
    assert odd == {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
    assert patch(gradient_checkpointing=False) == {"gradient_checkpointing": True}
    assert patch(max_seq_length=2048) == {"max_seq_length": 1024}
    assert patch(**{"plan.max_length": 600}) == {"max_seq_length": 300}
    assert patch(max_seq_length=256) == {}


def test_the_learning_rate_is_lowered_and_fp16_replaced() -> None:
    action = fix_action("gentler", RUN | {"learning_rate": 2e-4, "fp16": True})
    assert action is not None
    assert action["settings"] == {
        "learning_rate": 5e-5,
        "fp16": False,
        "hardware.precision": "fp32",
    }


def test_rates_of_muon_are_lowered_with_the_learning_rate() -> None:
    rates = {"matrix_lr": 0.02, "embedding_lr": 0.3, "scalar_lr": None}
    action = fix_action("gentler", RUN | {"learning_rate": 2e-4, "optimizer": rates})
    assert action is not None
    assert action["settings"] == {
        "learning_rate": 5e-5,
        "optimizer.matrix_lr": 0.005,
        "optimizer.embedding_lr": 0.075,
    }


@pytest.mark.parametrize(
    ("exit_code", "signal"),
    [(None, None), (0, None), (1, None), (-9, 9), (137, 9), (139, 11), (-11, 11), (143, 15),
     (3221225477, 11), (-1073741819, 11), (128, None), (255, None)],
)  # fmt: skip
def test_an_exit_code_gives_its_signal(exit_code: int | None, signal: int | None) -> None:
    assert signal_of(exit_code) == signal


def test_a_signal_precedes_the_log_and_memory_precedes_the_signal() -> None:
    log = "update 3 loss 1.0\nCUDA out of memory\n" + "update 4\n" * 50
    assert diagnose_exit(log, exit_code=-9).code == "killed"
    assert diagnose_exit(log, signal=9, memory_ran_out=True).code == "killed-for-memory"
    assert diagnose_exit("", memory_ran_out=True).code == "killed-for-memory"
    assert diagnose_exit("", signal=11, memory_ran_out=True).code == "segfault"
    assert diagnose_exit("", exit_code=-15).code == "ended-by-person"


def test_only_the_last_lines_of_a_log_are_used() -> None:
    early = "CUDA out of memory\n" + "update 4  loss 1.0\n" * 60
    assert diagnose_exit(early).code == "unexpected"
    late = "RuntimeError: CUDA out of memory\nFatal Python error: Segmentation fault\n\nStack:\n"
    assert diagnose_exit(late).code == "segfault"


def test_an_inferred_cause_is_reported_as_probable() -> None:
    inferred = diagnose_exit("", signal=9, memory_ran_out=True)
    assert not inferred.certain
    assert inferred.what.startswith("Probably: the system ended the worker")
    certain = cause_of("out-of-memory")
    assert certain is not None
    assert certain.certain
    assert cause_of("nobody-knows") is None


def test_a_fix_needs_the_settings_of_the_run() -> None:
    assert diagnose_exit("", signal=9).action is None
    acted = diagnose_exit("", signal=9, config=RUN | {"per_device_train_batch_size": 2})
    assert acted.action is not None
    assert acted.action["settings"]["per_device_train_batch_size"] == 1
