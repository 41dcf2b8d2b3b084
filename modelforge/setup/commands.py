"""The commands of launch.py: run set-up, then continue in the virtual environment."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from modelforge.setup.browser import find_browser
from modelforge.setup.environment import SetupOptions, child_environment
from modelforge.setup.errors import SetupError, UsageError
from modelforge.setup.extra_facts import did_you_mean
from modelforge.setup.progress import StageLine, run_watched
from modelforge.setup.stages import Setup
from modelforge.setup.system_checks import checks_before_setup, default_home, given_home

ROOT = Path(__file__).resolve().parents[2]
USAGE = """\
python launch.py [COMMAND] [OPTIONS]

  (no command)          set up once, then open the app on 127.0.0.1
      --no-browser        print the address only
      --app               open in an app window
      --port N            port (7860, or the next free one)
      --listen            serve other machines too; needs a password
  demo                  fine-tune the starter model in the terminal, in about three minutes
  setup                 set up only
      --with EXTRA        also install an extra: dev, unsloth, quantization, gguf,
                          lm-eval, privacy, deepspeed, mcp, sweep, trackers, or one of
                          tensorboard, trackio, wandb, mlflow, aim
      --torch "ARGS"      pip arguments for torch, or `auto` (also MODELFORGE_TORCH)
  doctor                check this machine
  test [PYTEST ARGS]    set up everything the tests need and run them
      --slow              also run the tests that take long

  --home FOLDER         folder for runs and models (also MODELFORGE_HOME)
"""
# Options that the modules ui and modelforge parse, checked here before anything is set up.
_FLAG = {"action": "store_true"}
PASSED_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "": {"--no-browser": _FLAG, "--app": _FLAG, "--listen": _FLAG, "--port": {"type": int}},
    "demo": {"--sample": {}, "--json": _FLAG},
    "doctor": {"--json": _FLAG},
}
DOWNLOAD_TIMEOUT_MS = "20000"
BROWSER_TESTS = "tests/browser"
SERIAL_TESTS = ("tests/faults", "tests/gpu")
MAX_TEST_PROCESSES = 4


def main(argv: Sequence[str]) -> int:
    """Run a command of launch.py and return its exit code."""
    commands = {"test": _test, "demo": _demo, "setup": _setup, "doctor": _doctor}
    name = argv[0] if argv and not argv[0].startswith("-") else ""
    rest = list(argv)[1:] if name else list(argv)
    try:
        if name and name not in commands:
            hint = did_you_mean(name, commands)
            raise UsageError(f"{name}: is not a command of launch.py. {hint}")
        if name != "test" and {"-h", "--help"} & set(rest):
            sys.stdout.write(USAGE)
            return 0
        return commands.get(name, _app)(rest)
    except UsageError as error:
        sys.stderr.write(f"{error}\n\n{USAGE}")
        return 2
    except SetupError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; run the same command again to continue.\n")
        return 130


def _app(rest: list[str]) -> int:
    options, passed = _parse_options("", rest)
    _prepare(options)
    return _exec_python(options, ["-m", "ui", "--home", str(options.home), *passed])


def _demo(rest: list[str]) -> int:
    options, passed = _parse_options("demo", rest)
    _prepare(options)
    return _exec_python(options, ["-m", "modelforge", "demo", *passed])


def _setup(rest: list[str]) -> int:
    options, _passed = _parse_options("setup", rest)
    if not _prepare(options):
        sys.stdout.write("Set-up is complete. Open the app with `python launch.py`.\n")
    return 0


def _doctor(rest: list[str]) -> int:
    options, passed = _parse_options("doctor", rest)
    missing = Setup(_setup_options(options)).missing()
    if not {"Environment", "ModelForge"} & set(missing):
        return _exec_python(options, ["-m", "modelforge", "doctor", *passed])
    rows = checks_before_setup(options.home)
    sys.stdout.write("\n".join(map(str, rows)) + "\n")
    return int(any(row.state == "bad" for row in rows))


def _test(rest: list[str]) -> int:
    home = os.environ.get("MODELFORGE_HOME") or ROOT / ".venv" / "home"
    options = argparse.Namespace(
        home=Path(home).resolve(),
        extras=["dev"],
        torch=os.environ.get("MODELFORGE_TORCH"),
        renews_extras=False,
    )
    _prepare(options)
    browser = find_browser() or _install_browser(options)
    tests = {"MODELFORGE_TEST_ALL": "1", "MODELFORGE_BROWSER": browser}
    if rest not in ([], ["--slow"]):
        return _exec_python(options, ["-m", "pytest", *rest], tests)
    chosen = [] if rest else ["-m", "not slow"]
    # Fault and GPU tests run alone, because they kill processes and measure time. The others run in
    # parallel with one thread each; those of the browser apart, for each takes several processes.
    parallel = ["-n", "auto", f"--maxprocesses={MAX_TEST_PROCESSES}"]
    ignored = [f"--ignore={folder}" for folder in (BROWSER_TESTS, *SERIAL_TESTS)]
    codes = [
        _pytest(options, [*chosen, *parallel, *ignored], tests | {"OMP_NUM_THREADS": "1"}),
        _pytest(options, [*chosen, "-n", "2", BROWSER_TESTS], tests),
        _pytest(options, [*chosen, *SERIAL_TESTS], tests),
    ]
    return next((code for code in codes if code), 0)


def _pytest(options: argparse.Namespace, arguments: Sequence[str], tests: dict[str, str]) -> int:
    command = [str(_setup_options(options).python), "-m", "pytest", *arguments]
    return subprocess.call(command, cwd=ROOT, env=child_environment(options.home) | tests)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}.")


def _parse_options(command: str, rest: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options of set-up, and those that are passed to the command.

    Raises UsageError if there are others.
    """
    shared = _Parser(prog="launch.py", add_help=False, allow_abbrev=False)
    shared.add_argument("--home", type=given_home)
    shared.add_argument("--torch", default=os.environ.get("MODELFORGE_TORCH"))
    shared.add_argument("--with", dest="extras", action="append", default=[])
    options, passed = shared.parse_known_args(rest)
    options.home = options.home or default_home()
    options.renews_extras = command == "setup"
    own = _Parser(prog="launch.py", add_help=False, allow_abbrev=False)
    for name, arguments in PASSED_OPTIONS.get(command, {}).items():
        own.add_argument(name, **arguments)
    unknown = own.parse_known_args(passed)[1]
    # Without the values of unknown options.
    if unknown := [name for name in unknown if name.startswith("-")] or unknown:
        names = ("--home", "--torch", "--with", *PASSED_OPTIONS.get(command, {}))
        texts = (
            f"{name}: is not an option of {command or 'launch.py'}. {did_you_mean(name, names)}"
            for name in unknown
        )
        raise UsageError("\n".join(texts))
    return options, passed


def _setup_options(options: argparse.Namespace) -> SetupOptions:
    extras = frozenset(name for value in options.extras for name in value.split(",") if name)
    return SetupOptions(ROOT, options.home, extras, options.torch, options.renews_extras)


def _prepare(options: argparse.Namespace) -> bool:
    """Run the unfinished stages and return whether there were any."""
    setup = Setup(_setup_options(options))
    setup.refuse_extras()
    missing = setup.missing()
    if len(missing) > 1:
        sys.stdout.write(f"Setting up ModelForge in {ROOT / '.venv'}.\n")
    started = time.monotonic()
    if not setup.run():
        return False
    sys.stdout.write(f"Set up in {time.monotonic() - started:.0f} s.\n")
    return True


def _install_browser(options: argparse.Namespace) -> str:
    """Install a browser for the tests with Playwright or apt and return its path."""
    log = ROOT / ".setup" / "setup.log"
    env = child_environment(options.home)
    env |= {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": DOWNLOAD_TIMEOUT_MS}
    env |= {"DEBIAN_FRONTEND": "noninteractive"}
    methods = [[[str(_setup_options(options).python), "-m", "playwright", "install", "chromium"]]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        methods.append([["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]])
    for commands in methods:
        line = StageLine("[tests] Browser")
        # After a failed update the old package lists are still usable.
        codes = [run_watched(command, line, log, env=env, cwd=ROOT)[0] for command in commands]
        path = find_browser() if codes[-1] == 0 else None
        line.end("done" if path else f"{Path(commands[-1][0]).name} failed")
        if path:
            return path
    raise SetupError(
        "The tests need a browser and none could be installed; install Chromium or Chrome, or "
        f"set MODELFORGE_BROWSER, then run the tests again (the output is in {log})."
    )


def _exec_python(
    options: argparse.Namespace, arguments: list[str], more: dict[str, str] | None = None
) -> int:
    """Replace this process by the Python of the environment; on Windows, wait for it instead."""
    command = [str(_setup_options(options).python), *arguments]
    env = child_environment(options.home) | (more or {})
    os.chdir(ROOT)
    sys.stdout.flush()
    if platform.system() != "Windows":
        os.execve(command[0], command, env)
    with subprocess.Popen(command, env=env) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # The child receives Ctrl+C as well and shuts down itself.
