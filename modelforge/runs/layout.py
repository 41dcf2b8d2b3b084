"""The files of a run folder, as paths.

Every file has one writer: the store, the supervisor, the worker or a service. docs/run-folder.md
describes each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelforge.runs.atomic_files import find_json

# The last file that is written into the folder of a reward model.
REWARD_MODEL_DONE = "complete.json"


def holds_adapter(folder: Path) -> bool:
    """Return whether a folder, such as a checkpoint, has an adapter."""
    return (folder / "adapter_config.json").is_file()


def holds_model(folder: Path) -> bool:
    """Return whether a folder, such as a checkpoint, has a full model."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


class _Entry:
    """A file or subfolder of a run folder; the attribute is its path."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RunFolder, _owner: type) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; its name is the run's id."""

    path: Path

    @property
    def id(self) -> str:
        """Id of the run."""
        return self.path.name

    # The record of the run: settings, their origins, plan, dataset, name.
    config = _Entry("config.json")
    # The preflight report from before the start.
    preflight = _Entry("preflight.json")
    # Versions of Python and the packages that matter.
    environment = _Entry("environment.json")
    # The user's name, tags and note. Absent until one is given.
    about = _Entry("about.json")
    # Identity of the worker process: pid and creation time.
    process = _Entry("process.json")
    # Where the run trains, and as which job, if that is not this computer.
    launch = _Entry("launch.json")
    # Standard output and error of the relay, which follows such a run.
    relay_log = _Entry("relay.log")
    # The run and step that a continued run starts from. Absent for other runs.
    came_from = _Entry("came_from.json")
    # The events of the worker, one JSON line each.
    events = _Entry("events.jsonl")
    # Standard output and error of the worker.
    log = _Entry("worker.log")
    # The stop request: `keep` or `discard`.
    stop = _Entry("stop")
    # How the worker ended; the last file it writes.
    exit = _Entry("exit.json")
    # The evaluation that was queued at the end of the run: its id, or why there is none.
    evaluation = _Entry("evaluation.json")
    # Why the run was lost, as the first server that looked has found.
    diagnosis = _Entry("diagnosis.json")
    # Votes on answers whose models were not shown. Absent until the first vote.
    votes = _Entry("votes.jsonl")
    # Losses of the training rows. Absent where they are not kept.
    row_losses = _Entry("row-losses.npz")
    # Checkpoints to resume from.
    checkpoints = _Entry("checkpoints")
    # Reward model trained in the first stage of RLHF; complete once `complete.json` exists.
    reward_model = _Entry("reward_model")
    # The model of random weights that a training from nothing begins with, and its tokenizer.
    start_model = _Entry("start_model")
    # Folder in which it is made before it is renamed to `start_model`.
    start_model_staged = _Entry(".start-model-staged")
    # The models of the finished stages of a growing model, by the number of the stage.
    stages = _Entry("stages")
    # Folder in which one is written before it is renamed.
    stage_staged = _Entry(".stage-staged")
    # What the frozen trunk of a growing model computes, while a stage is trained.
    trunk_cache = _Entry("trunk_cache")
    # Losses of the evaluation batches: before the training, and of the weights that are kept.
    evaluation_losses = _Entry("evaluation_losses.json")
    # The data of a run that was taken in from another computer.
    data = _Entry("data")
    # Token files of a training from nothing, until it has finished.
    tokens = _Entry("tokens")
    # Files of the engine Surogate: its YAML, rows, log, checkpoints and output.
    engine = _Entry("engine")
    # What the processes of a run on several GPUs report, while it trains.
    ranks = _Entry("ranks")
    # Local data of experiment trackers, one folder each.
    trackers = _Entry("trackers")
    # The trained adapter or full model, with its tokenizer.
    output = _Entry("output")
    # The adapter merged into the base model, with `adapter.merge_after_training`.
    merged = _Entry("merged")
    # Folder in which that is written before it is renamed to `merged`.
    merged_staged = _Entry(".merged-staged")
    # Folder in which the output is written before it is renamed to `output`.
    output_staged = _Entry(".output-staged")

    @property
    def has_adapter(self) -> bool:
        """Whether the output is an adapter."""
        return holds_adapter(self.output)

    @property
    def has_model(self) -> bool:
        """Whether the output is a full model."""
        return holds_model(self.output)

    @property
    def has_reward_model(self) -> bool:
        """Whether the run's own reward model is fully trained."""
        return find_json(self.reward_model / REWARD_MODEL_DONE) is not None

    @property
    def finished_stages(self) -> int:
        """How many stages of a growing model are finished."""
        folders = (path for path in self.stages.glob("stage-*") if path.is_dir())
        numbers = (folder.name.removeprefix("stage-") for folder in folders)
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def stage(self, number: int) -> Path:
        """Return the folder of the model of a stage, numbered from 1."""
        return self.stages / f"stage-{number}"

    @property
    def has_result(self) -> bool:
        """Whether there is a trained model to chat with and export."""
        return self.has_adapter or self.has_model
