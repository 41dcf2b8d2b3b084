"""Optional packages: the state of Unsloth, and its installation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue

from modelforge.errors import Problem
from modelforge.forge import Forge
from modelforge.hardware.machine import Machine
from modelforge.preflight.checks.provider import unsloth_status
from modelforge.setup import extras
from ui.contract import ProgressLine, json_line, problem_text
from ui.html.markup import Markup
from ui.html.templates import render

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
    lines: SimpleQueue[ProgressLine] = SimpleQueue()

    def install() -> None:
        try:
            extras.install_extra(
                extra, forge.home.root, lambda text: lines.put(ProgressLine(progress=text))
            )
            lines.put(ProgressLine(done=extra))
        except extras.SetupError as error:
            lines.put(ProgressLine(error=str(error)))
        except Exception as error:  # noqa: BLE001  # thread boundary: the page must get an end
            reason = f"The installation failed: {type(error).__name__}. Run `{COMMAND}`."
            lines.put(ProgressLine(error=reason))

    threading.Thread(target=install, name="install", daemon=True).start()
    yield from queued_lines(lines)


def queued_lines(lines: SimpleQueue[ProgressLine]) -> Iterator[str]:
    """Yield JSON lines from a queue up to the last one."""
    while True:
        line = lines.get()
        yield json_line(line)
        if line.progress is None:
            return


def why_not(forge: Forge) -> Problem | None:
    """Return why nothing can be installed now, or None."""
    if run := forge.runs.active():
        what = f"The run {run} is in progress; packages cannot be changed meanwhile."
        return Problem("setup", what, "Wait until it ends, then try again.")
    if reason := extras.unavailable_reason(forge.home.root):
        return Problem("setup", reason, f"Close the app and run `{COMMAND}`.")
    return None
