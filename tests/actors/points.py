"""The points of a worker's life at which it may be struck, and what strikes it.

`arm` patches the libraries of this process, which is a stand-in's; the product knows nothing of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

Deed = Callable[[], None]


def struck_at(run: Path) -> Path:
    """Return the file that keeps when the worker of a run was struck, on the system's clock."""
    return Path(tempfile.gettempdir()) / f"{run.name}.struck"


def kill_myself(run: Path) -> Deed:
    """Return what ends this process as the system's out-of-memory killer would end it."""

    def kill() -> None:
        struck_at(run).write_text(str(time.monotonic()), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

    return kill


def fill_the_disk(folder: Path) -> Deed:
    """Return what takes every byte that is left on the disk of `folder`."""

    def fill() -> None:
        ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (2**20, 4096, 1):
            try:
                while True:
                    os.write(ballast, b"\0" * size)
            except OSError:
                continue
        os.close(ballast)

    return fill


def run_out_of_cuda() -> None:
    """Fail as a GPU does that has no memory left."""
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def limit_memory(room_mib: int = 64) -> Deed:
    """Return what leaves this process `room_mib` MiB to grow by."""

    def limit() -> None:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + room_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        import torch

        kept = []
        while True:
            kept.append(torch.ones(2**20))

    return limit


def run_out_of_host() -> None:
    """Fail as torch does when the system refuses it memory."""
    words = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
    raise RuntimeError(words + "memory: you tried to allocate 805306368 bytes.")


def shrink(run_out: Deed, most: int = 2) -> Deed:
    """Return what has memory run out from now on whenever more than `most` rows are computed."""

    def shrunk() -> None:
        from peft.tuners.tuners_utils import BaseTuner

        kept = BaseTuner.forward

        def forward(tuner: Any, *args: Any, **more: Any) -> Any:
            found = kept(tuner, *args, **more)
            if len(more["input_ids"]) > most:
                run_out()
            return found

        BaseTuner.forward = forward

    return shrunk


def arm(point: str, deed: Deed, nth: int = 1) -> None:
    """Have `deed` done when `point` is reached for the `nth` time."""
    reached = 0

    def strike() -> None:
        nonlocal reached
        reached += 1
        if reached == nth:
            deed()

    (POINTS | FROM_NOTHING | GROWING)[point](strike)


def _before(
    owner: Any, name: str, strike: Deed, when: Callable[..., bool] = lambda *_: True
) -> None:
    kept = getattr(owner, name)

    def instead(*args: Any, **more: Any) -> Any:
        if when(*args):
            strike()
        return kept(*args, **more)

    setattr(owner, name, instead)


def _after(
    owner: Any, name: str, strike: Deed, when: Callable[..., bool] = lambda *_: True
) -> None:
    kept = getattr(owner, name)

    def instead(*args: Any, **more: Any) -> Any:
        given = kept(*args, **more)
        if when(*args):
            strike()
        return given

    setattr(owner, name, instead)


def _loading(strike: Deed) -> None:
    from transformers import AutoModelForCausalLM

    _before(AutoModelForCausalLM, "from_pretrained", strike)


def _tokenizing(strike: Deed) -> None:
    from modelforge.train import loop

    _before(loop, "tokenize", strike)


def _first_step(strike: Deed) -> None:
    from transformers import Trainer

    _after(Trainer, "compute_loss", strike)


def _optimizer_step(strike: Deed) -> None:
    from torch.optim import AdamW

    _after(AdamW, "step", strike)


def _weights_saved(strike: Deed) -> None:
    from transformers import Trainer

    _before(Trainer, "_save_optimizer_and_scheduler", strike)


def _optimizer_saved(strike: Deed) -> None:
    from transformers import Trainer

    _after(Trainer, "_save_optimizer_and_scheduler", strike)


def _before_manifest(strike: Deed) -> None:
    """When all is staged but the manifest."""
    from modelforge.runs import checkpoints

    _before(checkpoints, "write_manifest", strike)


def _before_rename(strike: Deed) -> None:
    """Just before a staged checkpoint gets its name."""
    from modelforge.runs import checkpoints

    _before(checkpoints, "move_into_place", strike)


def _pruning(strike: Deed) -> None:
    """When one file of an old checkpoint is gone and the rest is not."""
    from modelforge.runs import checkpoints

    def lose_a_file(folder: Any, *_: Any, **__: Any) -> bool:
        if not Path(folder).name.startswith(checkpoints.GONE):
            return False
        sorted(path for path in Path(folder).iterdir() if path.is_file())[0].unlink()
        return True

    _before(shutil, "rmtree", strike, lose_a_file)


def _final_save(strike: Deed) -> None:
    from peft import PeftModel

    def is_output(_model: Any, folder: Any, *_: Any) -> bool:
        return Path(folder).name == ".output-staged"

    _after(PeftModel, "save_pretrained", strike, is_output)


def _last_word(strike: Deed) -> None:
    from modelforge.train.event_log import EventLog

    _before(EventLog, "end", strike)


def _last_act(strike: Deed) -> None:
    from modelforge.train import worker

    _before(worker, "write_json", strike)


def _reading_texts(module: str, strike: Deed) -> None:
    """When one more text has been read."""
    reader = import_module(f"modelforge.train.pretraining.{module}")
    kept = reader.with_progress

    def texts(*args: Any) -> Iterator[str]:
        for text in kept(*args):
            strike()
            yield text

    reader.with_progress = texts


def _start_model(strike: Deed) -> None:
    """When the new model is written and has not its name yet."""
    from modelforge.train.pretraining import start_model

    _after(start_model, "_make", strike)


def _token_facts(strike: Deed) -> None:
    """When all tokens are written and their facts are not."""
    from modelforge.modeling.pretraining import token_file

    _before(token_file, "write_json", strike)


def _micro_batch(strike: Deed) -> None:
    from modelforge.train.pretraining.trainer import _WindowLossMixin

    _after(_WindowLossMixin, "compute_loss", strike)


def _stage_saved(strike: Deed) -> None:
    """When the weights of a stage are written and the other files of its model are not."""
    from transformers import PreTrainedModel

    def is_stage(_model: Any, folder: Any, *_: Any) -> bool:
        return Path(folder).name == ".stage-staged"

    _after(PreTrainedModel, "save_pretrained", strike, is_stage)


def _stage_unnamed(strike: Deed) -> None:
    """When the model of a stage is written whole and has not its name yet."""
    from modelforge.train import save

    def is_stage(_job: Any, _trainer: Any, _note: Any, staged: Path, *_: Any) -> bool:
        return staged.name == ".stage-staged"

    _after(save, "write", strike, is_stage)


def _stage_named(strike: Deed) -> None:
    """When the model of a stage has its name, and the checkpoints of the stage are still there."""
    from modelforge.train.strategies import growing

    _before(growing, "remove_checkpoints_until", strike)


def _new_layers(strike: Deed) -> None:
    """When a stage has loaded the model of the one before, and has added its layers."""
    from modelforge.train.growing import stage

    _after(stage, "insert_layers", strike)


# As the worker of a training from nothing passes them, beside those of every worker.
FROM_NOTHING: dict[str, Callable[[Deed], None]] = {
    "while the tokenizer is trained": partial(_reading_texts, "start_model"),
    "before the new model has its name": _start_model,
    "while tokens are written": partial(_reading_texts, "corpus"),
    "between tokens and their facts": _token_facts,
    "after a micro-batch": _micro_batch,
}
# As the worker of a growing model passes them, beside those of every worker.
GROWING: dict[str, Callable[[Deed], None]] = {
    "while the model of a stage is saved": _stage_saved,
    "before the model of a stage has its name": _stage_unnamed,
    "when the model of a stage has its name": _stage_named,
    "when a stage has its new layers": _new_layers,
}
# As a worker passes them.
POINTS: dict[str, Callable[[Deed], None]] = {
    "loading the model": _loading,
    "turning rows into tokens": _tokenizing,
    "in the first update": _first_step,
    "inside optimizer.step": _optimizer_step,
    "between weights and optimizer": _weights_saved,
    "between optimizer and state": _optimizer_saved,
    "before the manifest": _before_manifest,
    "before the checkpoint's rename": _before_rename,
    "while an old checkpoint goes": _pruning,
    "in the final save": _final_save,
    "between final save and last event": _last_word,
    "between last event and last act": _last_act,
}
