"""Optional packages: the state of Unsloth, and its installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelforge.errors import Problem
from modelforge.forge import Forge
from modelforge.hardware.machine import Machine
from modelforge.preflight.checks.provider import unsloth_status
from modelforge.setup import extras
from ui.contract import ProgressLine, json_line, problem_text
from ui.html.markup import Markup
from ui.html.templates import render
from ui.streams import progress_lines

COMMAND = "python launch.py setup --with unsloth"
STATES = {
    "ready": ("installed", "good"),
    "absent": ("not installed", ""),
    "broken": ("broken", "bad"),
    "unsupported": ("not supported here", "warn"),
}


def unsloth_state(machine: Machine) -> Markup:
    """Return the state of Unsloth, and a button to install it."""
    gpu = machine.gpus[0] if machine.gpus else None
    standing = unsloth_status(machine, gpu)
    button = {"absent": "Install Unsloth", "broken": "Reinstall Unsloth"}.get(standing.state)
    label, tone = STATES[standing.state]
    return render("machine", "unsloth", label, tone, standing.message, button, COMMAND)


def install_lines(forge: Forge, extra: str) -> Iterator[str]:
    """Yield JSON lines of an installation: progress, then the end or an error."""
    if problem := why_not(forge):
        yield json_line(ProgressLine(error=problem_text(problem)))
        return

    def install(show: Callable[[str], None]) -> str:
        extras.install_extra(extra, forge.home.root, show)
        return extra

    yield from progress_lines(install, _install_error)


def why_not(forge: Forge) -> Problem | None:
    """Return why nothing can be installed now, or None."""
    if run := forge.runs.active():
        what = f"The run {run} is in progress; packages cannot be changed meanwhile."
        return Problem("setup", what, "Wait until it ends, then try again.")
    if reason := extras.unavailable_reason(forge.home.root):
        return Problem("setup", reason, f"Close the app and run `{COMMAND}`.")
    return None


def _install_error(error: Exception) -> str:
    if isinstance(error, extras.SetupError):
        return str(error)
    return f"The installation failed: {type(error).__name__}. Run `{COMMAND}`."
