"""Commands and copies on another computer with the ssh and rsync of the system, or on this one.

Every program gets a list of arguments. The shell of the other computer sees quoted words only.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, ForgeError, MissingPackageError, Problem, RunError
from modelforge.launchers import far
from modelforge.launchers.launcher import UnreachableError

CONNECT_S = 10
# A command without a limit of its own; one that copies or installs has none.
COMMAND_S = 60.0
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": f"{CONNECT_S}",
    "StrictHostKeyChecking": "yes",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    # One connection for all commands of a relay.
    "ControlMaster": "auto",
    "ControlPersist": "30",
}
SSH_FAILED, NOT_FOUND = 255, 127
# What rsync returns when the connection has failed: 10 to 14 and 30 to 35 concern the line.
RSYNC_LINE = {10, 11, 12, 13, 14, 30, 35, SSH_FAILED}
# Text of ssh → what is wrong and what to do, where trying again does not help.
REFUSALS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "The host key of {host} has changed.",
        "Find out why; if it is right, remove the old key with `ssh-keygen -R {host}`.",
    ),
    (
        r"Host key verification failed|host key is known",
        "The host key of {host} is not known here.",
        "Run `ssh {host}` once in a terminal, and compare the fingerprint that it shows.",
    ),
    (
        r"Permission denied",
        "{host} does not accept a key of this user.",
        "Set up a key that needs no input: `ssh-copy-id {host}`, and ssh-agent for a passphrase.",
    ),
    (
        r"Bad owner or permissions|Bad configuration|no such identity|Can't open user config",
        "The configuration of ssh cannot be used: {text}.",
        "Correct it; `ssh {host}` must work without input.",
    ),
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
MAX_TEXT_CHARS = 300


@dataclass
class Shell:
    """Runs commands on a computer; without a host on this one.

    `python` runs our commands there. `config` is a configuration file for ssh, and `host_keys` its
    StrictHostKeyChecking. Raises UnreachableError while there is no connection, ConfigError for
    what ssh refuses, RunError for a command that fails.
    """

    host: str = ""
    port: int | None = None
    python: str = "python3"
    config: str = ""
    host_keys: str = "yes"
    _control: Path | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The computer, for messages."""
        return self.host.rpartition("@")[2] or "this computer"

    def far(self, command: str, *arguments: str, limit_s: float | None = COMMAND_S) -> Any:
        """Run a command of `far`; return its answer, and the bytes after it if it has any."""
        if self.host or command not in far.OF_FILES:
            answer, data = self._far_process([command, *arguments], limit_s)
        else:
            answer, data = far.answer([command, *arguments])
        if "error" in answer:
            what = f"{self.name}: {clean(answer['error'])}"
            log = f" The output is in {clean(answer['log'])} there." if "log" in answer else ""
            raise RunError(Problem("target", what, f"Correct it there.{log}"))
        return (answer, data) if data or command == "status" else answer

    def _far_process(
        self, arguments: list[str], limit_s: float | None
    ) -> tuple[dict[str, Any], bytes]:
        call = [self.python, "-I", "-", *arguments]
        done = self.run(call, data=Path(far.__file__).read_bytes(), limit_s=limit_s)
        line, _, data = done.stdout.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if done.returncode == NOT_FOUND:
            what = f"The program {self.python} is not found on {self.name}."
            remedy = "Install Python 3.11 to 3.13 there, or name it with the option python=PATH."
            raise ConfigError(Problem("target", what, remedy))
        if done.returncode or not isinstance(answer, dict):
            text = clean(done.stderr or done.stdout)
            what = f"The program {self.python} has failed on {self.name}: {text}"
            raise RunError(Problem("target", what, "Check the target: modelforge targets check."))
        return answer, data

    def run(
        self, call: Sequence[str], *, data: bytes = b"", limit_s: float | None = COMMAND_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program there with `data` as its input."""
        command = [*self._ssh(), self.host, shlex.join(call)] if self.host else list(call)
        try:
            done = subprocess.run(
                command, input=data, capture_output=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            self.close()
            raise self._unreachable(f"no answer within {limit_s:.0f} s") from error
        except FileNotFoundError as error:
            raise _missing(command[0]) from error
        if self.host and done.returncode == SSH_FAILED:
            self.close()
            raise self._refusal(done.stderr)
        return done

    def push(self, source: Path, target: str, *options: str) -> None:
        """Copy the content of a folder into one that exists there; links are followed."""
        self._rsync("-rtL", *options, f"{source}/", f"{self._place(target)}/")

    def pull(self, source: str, target: Path, *options: str) -> None:
        """Copy the content of a folder into `target`; links and devices are left out."""
        self._rsync("-rt", "--no-links", *options, f"{self._place(source)}/", f"{target}/")

    def close(self) -> None:
        """End the connection."""
        control, self._control = self._control, None
        if control is None:
            return
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["ssh", "-o", f"ControlPath={control}/%C", *self._where(), "-O", "exit"]
            subprocess.run([*command, self.host], capture_output=True, timeout=5, check=False)
        shutil.rmtree(control, ignore_errors=True)

    def _ssh(self) -> list[str]:
        if self._control is None:
            # Short, because the path of a socket has 104 bytes at most; the folder is private.
            self._control = Path(tempfile.mkdtemp(prefix="mf-"))
        options = OPTIONS | {"StrictHostKeyChecking": self.host_keys}
        options |= {"ControlPath": f"{self._control}/%C"}
        return ["ssh", "-T", *self._where(), *(f"-o{key}={text}" for key, text in options.items())]

    def _where(self) -> list[str]:
        port = ["-p", str(self.port)] if self.port else []
        return [*port, *(["-F", self.config] if self.config else [])]

    def _place(self, path: str) -> str:
        return f"{self.host}:{path}" if self.host else path

    def _rsync(self, *arguments: str) -> None:
        line = ["-e", shlex.join(self._ssh())] if self.host else []
        # Names go over the line as data, not through the shell there.
        command = ["rsync", "--protect-args", "--partial", *line, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError as error:
            raise _missing("rsync") from error
        if self.host and done.returncode in RSYNC_LINE:
            self.close()
            raise self._refusal(done.stderr)
        if done.returncode:
            what = f"The copy with {self.name} has failed: {clean(done.stderr)}"
            remedy = "Check rsync, the disk space and the permissions on both computers."
            raise RunError(Problem("target", what, remedy))

    def _refusal(self, output: bytes) -> ForgeError:
        """Return the error for what ssh has printed."""
        text = clean(output)
        for pattern, what, remedy in REFUSALS:
            if re.search(pattern, text):
                names = {"host": self.name, "text": text}
                return ConfigError(Problem("target", what.format(**names), remedy.format(**names)))
        return self._unreachable(text or "the connection was closed")

    def _unreachable(self, why: str) -> UnreachableError:
        what = f"does not answer: {why.rstrip('.')}."
        return UnreachableError(Problem(self.name, what, "Check the network and the computer."))


def clean(text: bytes | str) -> str:
    """Return foreign text as one line without control characters, its end if it is long."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    line = CONTROL.sub(" ", decoded).strip()
    return line if len(line) <= MAX_TEXT_CHARS else f"… {line[-MAX_TEXT_CHARS:]}"


def _missing(program: str) -> MissingPackageError:
    what = f"The program {program} is not found on this computer."
    return MissingPackageError(Problem("target", what, f"Install {program}."))
