"""Install extras: without changing other packages, proved by import, undone when that fails."""

from __future__ import annotations

from collections.abc import Callable

from modelforge.setup.environment import VirtualEnvironment
from modelforge.setup.errors import CommandError, SetupError, UsageError
from modelforge.setup.extra_facts import (
    PROJECT,
    PROOFS,
    did_you_mean,
    named_packages,
    read_extras,
    why_unavailable,
)
from modelforge.setup.progress import StageLine
from modelforge.setup.state import StateFile
from modelforge.setup.system_checks import GpuInfo
from modelforge.setup.torch_build import torchvision_arguments

CHECK = "modelforge.train.tools.check_stack"
# Importing may compile something the first time, or wait for ever for a device.
PROOF_LIMIT_S = 600.0


class ExtraInstaller:
    """Installs the requested extras, and those that were installed for an older project.

    Args:
        mark: returns the fingerprint of the project and of the torch it uses.
        gpus: queries the NVIDIA GPUs.
    """

    def __init__(
        self,
        environment: VirtualEnvironment,
        state: StateFile,
        mark: Callable[[], str],
        gpus: Callable[[], GpuInfo],
    ) -> None:
        self._environment, self._options = environment, environment.options
        self._state = state
        self._mark = mark
        self._gpus = gpus

    def refuse_unusable(self, cuda: str | None) -> None:
        """Raise SetupError about every requested extra that is unknown or cannot work here."""
        requested = sorted(self._options.extras)
        known = read_extras(self._options.root) if requested else {}
        if unknown := [name for name in requested if name not in known]:
            texts = (f"{name}: is not an extra. {did_you_mean(name, known)}" for name in unknown)
            raise UsageError("\n".join(texts))
        new = [name for name in self.pending() if name in requested]
        reasons = {name: why_unavailable(name, self._gpus(), cuda) for name in new}
        texts = (_not_installed(name, reason) for name, reason in reasons.items() if reason)
        if message := "\n".join(texts):
            raise SetupError(message)

    def pending(self) -> list[str]:
        """Return the extras that are to be installed."""
        recorded, mark = self._recorded(), self._mark()
        renewed = self._options.extras if self._options.renews_extras else frozenset()
        wanted = self._options.extras | recorded.keys()
        return sorted(name for name in wanted if name in renewed or recorded.get(name) != mark)

    def is_used(self) -> bool:
        """Return whether any extra is requested, installed or half installed."""
        return bool(self._options.extras or self._recorded() or self._state.get("before_extra"))

    def is_done(self) -> bool:
        """Return whether all extras are installed, and none is half installed."""
        return not self.pending() and self._state.get("before_extra") is None

    def forget_proofs(self) -> None:
        """Let all extras be installed again, because torch was replaced."""
        self._state.put(extras=dict.fromkeys(self._recorded(), ""))

    def install(self, line: StageLine) -> None:
        """Install the pending extras, after undoing an interrupted installation."""
        self._undo(line)
        for name in self.pending():
            self._install(name, line)

    def _recorded(self) -> dict[str, str]:
        """Return the installed extras, each with the mark it was installed for."""
        recorded = self._state.get("extras", {})
        if isinstance(recorded, dict):
            return recorded
        return dict.fromkeys(recorded, self._state.get("project", ""))  # an older version's list

    def _install(self, name: str, line: StageLine) -> None:
        recorded = self._recorded()
        others = {other: mark for other, mark in recorded.items() if other != name}
        is_known = name in read_extras(self._options.root)
        reason = why_unavailable(name, self._gpus(), self._environment.cuda_version())
        if not is_known or (reason and name not in self._options.extras):
            # The GPU it was installed for, or the extra itself, does not exist any more.
            self._state.put(extras=others)
            return
        if reason:
            raise SetupError(_not_installed(name, reason))
        self._state.put(before_extra=self._environment.packages(), extras=others)
        try:
            self._install_packages(name, line, is_new=name not in recorded)
            self._environment.python(["-m", CHECK, *PROOFS.get(name, ())], line, PROOF_LIMIT_S)
        except (CommandError, TimeoutError) as error:
            self._undo(line)
            slow = f"importing it took more than {PROOF_LIMIT_S / 60:.3g} min and was stopped"
            reason = error.reason if isinstance(error, CommandError) else slow
            text = f"{reason}; the packages are as before (see {self._environment.log})."
            raise SetupError(_not_installed(name, text)) from error
        except BaseException:
            self._undo(line)
            raise
        self._state.put(before_extra=None, extras=others | {name: self._mark()})

    def _install_packages(self, name: str, line: StageLine, *, is_new: bool) -> None:
        options, packages = self._options, self._environment.packages()
        named = named_packages(name, read_extras(options.root))
        kept = {
            package: version
            for package, version in packages.items()
            if package not in named and (is_new or _belongs_to_torch(package))
        }
        pins = options.root / ".setup" / "installed.txt"
        # "==" would let another build of the same version replace torch.
        lines = (
            f"{package}{'===' if package == 'torch' else '=='}{version}\n"
            for package, version in kept.items()
        )
        pins.write_text("".join(lines), encoding="utf-8")
        if name == "unsloth":
            vision = torchvision_arguments(packages.get("torch", ""), options.torch)
            if vision:
                self._environment.install(vision, line)
        tested = options.root / "constraints.txt"
        extra = f"{PROJECT}[{name}]"
        self._environment.install([extra, "-c", str(tested), "-c", str(pins)], line)

    def _undo(self, line: StageLine) -> None:
        """Bring the packages back to what they were before an extra."""
        before = self._state.get("before_extra")
        if before is None:
            return
        now = self._environment.packages()
        added = sorted(now.keys() - before.keys())
        changed = [f"{name}=={old}" for name, old in before.items() if now.get(name) != old]
        try:
            if added:
                self._environment.python(["-m", "pip", "uninstall", "-y", *added], line)
            if changed:
                self._environment.install(["--no-deps", "--force-reinstall", *changed], line)
        except CommandError as error:
            # Once only, so that the app starts.
            self._state.put(before_extra=None)
            raise SetupError(
                f"An extra has failed, and these packages could not be restored: "
                f"{', '.join([*added, *changed])}: {error.reason}. Run `python launch.py doctor`, "
                f"which tries them (the output is in {self._environment.log})."
            ) from error
        self._state.put(before_extra=None)


def _belongs_to_torch(package: str) -> bool:
    return package == "torch" or package.startswith(("triton", "nvidia-"))


def _not_installed(name: str, reason: str) -> str:
    return f"The extra {name} was not installed: {reason}"
