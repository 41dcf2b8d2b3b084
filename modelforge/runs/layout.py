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


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; its name is the run's id."""

    path: Path

    @property
    def id(self) -> str:
        """Id of the run."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The record of the run: settings, their origins, plan, dataset, name."""
        return self.path / "config.json"

    @property
    def preflight(self) -> Path:
        """The preflight report from before the start."""
        return self.path / "preflight.json"

    @property
    def environment(self) -> Path:
        """Versions of Python and the packages that matter."""
        return self.path / "environment.json"

    @property
    def about(self) -> Path:
        """The user's name, tags and note. Absent until one is given."""
        return self.path / "about.json"

    @property
    def process(self) -> Path:
        """Identity of the worker process: pid and creation time."""
        return self.path / "process.json"

    @property
    def came_from(self) -> Path:
        """The run and step that a continued run starts from. Absent for other runs."""
        return self.path / "came_from.json"

    @property
    def events(self) -> Path:
        """The events of the worker, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Standard output and error of the worker."""
        return self.path / "worker.log"

    @property
    def stop(self) -> Path:
        """The stop request: `keep` or `discard`."""
        return self.path / "stop"

    @property
    def exit(self) -> Path:
        """How the worker ended; the last file it writes."""
        return self.path / "exit.json"

    @property
    def diagnosis(self) -> Path:
        """Why the run was lost, as the first server to look found out."""
        return self.path / "diagnosis.json"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints to resume from."""
        return self.path / "checkpoints"

    @property
    def reward_model(self) -> Path:
        """Reward model trained in the first stage of RLHF; complete once `complete.json` exists."""
        return self.path / "reward_model"

    @property
    def trackers(self) -> Path:
        """Local data of experiment trackers, one folder each."""
        return self.path / "trackers"

    @property
    def output(self) -> Path:
        """The trained adapter or full model, with its tokenizer."""
        return self.path / "output"

    @property
    def output_staged(self) -> Path:
        """Folder in which the output is written before it is renamed to `output`."""
        return self.path / ".output-staged"

    @property
    def has_adapter(self) -> bool:
        """Whether the output is an adapter."""
        return (self.output / "adapter_config.json").is_file()

    @property
    def has_model(self) -> bool:
        """Whether the output is a full model."""
        return (self.output / "config.json").is_file() and any(self.output.glob("*.safetensors"))

    @property
    def has_reward_model(self) -> bool:
        """Whether the run's own reward model is fully trained."""
        return find_json(self.reward_model / REWARD_MODEL_DONE) is not None

    @property
    def has_result(self) -> bool:
        """Whether there is a trained model to chat with and export."""
        return self.has_adapter or self.has_model
