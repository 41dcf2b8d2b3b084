"""The trials of a sweep in a study of Optuna, whose journal survives the process.

Optuna proposes the values (Halton, TPE) and decides which trials fall behind (successive halving).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import MissingPackageError, Problem
from modelforge.services.sweeps.space import Dimension
from modelforge.services.targets.service import HERE

PACKAGES = ("optuna", "scipy")
# At each rung the better half goes on, to twice as many steps.
REDUCTION = 2
RUN, REASON, UNTIL, PAUSED, ON = "run", "reason", "until", "paused", "on"
# The trials whose values are spread evenly; those of later ones follow from the losses so far.
SPREAD_TRIALS = 6
# The number of the trial with the user's own settings, which is never stopped.
OWN = 0


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep."""

    number: Annotated[int, about("From 0, which has the user's own settings.")]
    state: Annotated[
        str, about("`running`, `paused`, `complete`, `pruned` (stopped early) or `fail`.")
    ]
    values: Annotated[dict[str, Any], about("Its values of what is varied.")]
    run: Annotated[str, about("The id of its run; empty before there is one.")]
    losses: Annotated[dict[int, float], about("Its evaluation losses by step.")]
    reason: Annotated[str, about("Why it failed.")] = ""
    until: Annotated[int, about("The step at which it pauses, once it goes on; otherwise 0.")] = 0
    paused: Annotated[int, about("The step at which it is paused, otherwise 0.")] = 0
    on: Annotated[str, about("The target where it trains; `here` is this computer.")] = HERE

    @property
    def is_running(self) -> bool:
        """Whether the trial is in progress or about to be."""
        return self.state == "running"

    @property
    def loss(self) -> float | None:
        """The newest loss."""
        return self.losses[max(self.losses)] if self.losses else None


class Study:
    """The trials of one sweep. `first` is the step of the first rung."""

    def __init__(
        self, folder: Path, dimensions: Sequence[Dimension], *, first: int, seed: int
    ) -> None:
        import optuna  # noqa: PLC0415 - an extra
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415 - an extra

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Filters of this process: those of a context are not safe with several threads.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Fixed parameter", UserWarning)  # own, outside a range
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        self._study = optuna.create_study(
            study_name=folder.name,
            storage=storage,
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=first, reduction_factor=REDUCTION
            ),
            load_if_exists=True,
        )
        self._study.sampler = self._sampler(optuna.samplers, seed)
        self._optuna: Any = optuna
        self._distributions = {each.name: self._distribution(each) for each in dimensions}

    def _sampler(self, samplers: Any, seed: int) -> Any:
        """Return what proposes the values: first evenly spread ones, then by the losses so far."""
        known = len(self._study.get_trials(deepcopy=False))
        if known <= SPREAD_TRIALS:
            return samplers.QMCSampler(
                qmc_type="halton",
                scramble=True,
                seed=seed,
                independent_sampler=samplers.RandomSampler(seed),
                warn_independent_sampling=False,
                warn_asynchronous_seeding=False,
            )
        # A process that continues a study draws other values than the one before it.
        return samplers.TPESampler(
            seed=seed + known, n_startup_trials=1, multivariate=True, constant_liar=True
        )

    def trials(self) -> list[Trial]:
        """Return the trials that have begun, in their order."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [
            Trial(
                number=each.number,
                state="paused" if _paused(each) else each.state.name.lower(),
                values=dict(each.params),
                run=str(each.user_attrs.get(RUN, "")),
                losses=dict(each.intermediate_values),
                reason=str(each.user_attrs.get(REASON, "")),
                until=int(each.user_attrs.get(UNTIL, 0)),
                paused=_paused(each),
                on=str(each.user_attrs.get(ON, HERE)),
            )
            for each in self._study.get_trials(deepcopy=False)
            if each.state is not waiting
        ]

    def begin(self, own: Mapping[str, Any]) -> None:
        """Let the first trial have the user's own values."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(own))

    def ask(self) -> Trial:
        """Begin a trial and return it."""
        number = self._study.ask(self._distributions).number
        return next(each for each in self.trials() if each.number == number)

    def set_run(self, number: int, run_id: str) -> None:
        """Note which run trains a trial."""
        self._trial(number).set_user_attr(RUN, run_id)

    def set_place(self, number: int, name: str) -> None:
        """Note where a trial trains."""
        self._trial(number).set_user_attr(ON, name)

    def pause(self, number: int, step: int) -> None:
        """Note that the run of a trial was stopped at a step, to go on later."""
        self._trial(number).set_user_attr(PAUSED, step)

    def set_until(self, number: int, step: int) -> None:
        """Note at which step a paused trial is to pause next."""
        self._trial(number).set_user_attr(UNTIL, step)

    def unpause(self, number: int) -> None:
        """Note that a paused trial goes on."""
        self._trial(number).set_user_attr(PAUSED, 0)

    def report(self, number: int, step: int, loss: float) -> None:
        """Add a loss of a trial, unless it has one for this step."""
        trial = self._study.get_trials(deepcopy=False)[number]
        if step not in trial.intermediate_values:
            self._trial(number).report(loss, step)

    def falls_behind(self, number: int) -> bool:
        """Return whether a trial is in the worse part at a rung that it has reached.

        A trial is compared with later ones only after this was called for it.
        """
        return number != OWN and bool(self._trial(number).should_prune())

    def complete(self, number: int, loss: float) -> None:
        """End a trial that was trained to its end."""
        self._study.tell(number, loss)

    def prune(self, number: int) -> None:
        """End a trial that has fallen behind, or that the deadline has stopped."""
        self._study.tell(number, state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that has no result."""
        self._trial(number).set_user_attr(REASON, reason)
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def _trial(self, number: int) -> Any:
        found = self._study.get_trials(deepcopy=False)[number]
        return self._optuna.trial.Trial(self._study, found._trial_id)

    def _distribution(self, dimension: Dimension) -> Any:
        distributions = self._optuna.distributions
        if dimension.choices:
            return distributions.CategoricalDistribution(dimension.choices)
        if dimension.whole:
            return distributions.IntDistribution(int(dimension.low), int(dimension.high))
        return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _paused(trial: Any) -> int:
    """Return the step at which a trial of Optuna is paused, otherwise 0."""
    return 0 if trial.state.is_finished() else int(trial.user_attrs.get(PAUSED, 0))


def is_installed() -> bool:
    """Return whether Optuna is installed, with what its samplers need."""
    return all(find_spec(name) for name in PACKAGES)


def require_package() -> None:
    """Raise MissingPackageError without Optuna."""
    if not is_installed():
        what = (
            "The packages optuna and scipy, which choose the values of a sweep, are not installed."
        )
        remedy = "Run `python launch.py setup --with sweep`. Single runs work without it."
        raise MissingPackageError(Problem("sweep", what, remedy))
