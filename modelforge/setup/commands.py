"""The commands of launch.py: set up what is missing, then hand over to the environment."""

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

from modelforge.setup.browser import find_browser
from modelforge.setup.errors import SetupError
from modelforge.setup.progress import StageLine, run_watched
from modelforge.setup.stages import Setup, SetupOptions, child_environment
from modelforge.setup.system_checks import checks_before_setup, default_home

ROOT = Path(__file__).resolve().parents[2]
USAGE = """\
python launch.py [COMMAND] [OPTIONS]

  (no command)          set up once, then open the app on 127.0.0.1
      --no-browser        print the address only
      --app               open in a window of its own
      --port N            the port (7860, or the next free one)
      --listen            serve other machines too; needs a password
  demo                  fine-tune the starter model in the terminal, in about three minutes
  setup                 set up, open nothing
      --with EXTRA        also install an extra: dev, unsloth, quantization,
                          trackers, or one of tensorboard, trackio, wandb, mlflow, aim
      --torch "ARGS"      what to give pip for torch, or `auto` (also MODELFORGE_TORCH)
  doctor                what is right and wrong with this machine
  test [PYTEST ARGS]    set up what the tests need too, and run them

  --home FOLDER         where runs and models are kept (also MODELFORGE_HOME)
"""
BROWSER_WAIT_MS = "20000"
ALONE = ("tests/faults", "tests/browser", "tests/gpu")
MOST_AT_ONCE = 4


def main(argv: Sequence[str]) -> int:
    """Do one command of launch.py and return its exit code."""
    commands = {"test": _test, "demo": _demo, "setup": _setup, "doctor": _doctor}
    command = commands.get(argv[0], _app) if argv else _app
    rest = list(argv) if command is _app else list(argv[1:])
    if command is not _test and {"-h", "--help"} & set(rest):
        sys.stdout.write(USAGE)
        return 0
    try:
        return command(rest)
    except SetupError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the next call goes on from here.\n")
        return 130


def _app(rest: list[str]) -> int:
    own, passed = _own_options(rest)
    _prepare(own)
    return _become(own, ["-m", "ui", "--home", str(own.home), *passed])


def _demo(rest: list[str]) -> int:
    own, passed = _own_options(rest)
    _prepare(own)
    return _become(own, ["-m", "modelforge", "demo", *passed])


def _setup(rest: list[str]) -> int:
    own, passed = _own_options(rest)
    if passed:
        sys.stderr.write(f"{passed[0]}: is no option of setup.\n\n{USAGE}")
        return 2
    if not _prepare(own):
        sys.stdout.write("Everything is set up already. Open the app with `python launch.py`.\n")
    return 0


def _doctor(rest: list[str]) -> int:
    own, passed = _own_options(rest)
    missing = Setup(_wish(own)).missing()
    if not {"Environment", "ModelForge"} & set(missing):
        return _become(own, ["-m", "modelforge", "doctor", *passed])
    rows = checks_before_setup(own.home)
    sys.stdout.write("\n".join(map(str, rows)) + "\n")
    return int(any(row.state == "bad" for row in rows))


def _test(rest: list[str]) -> int:
    home = os.environ.get("MODELFORGE_HOME") or ROOT / ".venv" / "home"
    own = argparse.Namespace(
        home=Path(home).resolve(), extras=["dev"], torch=os.environ.get("MODELFORGE_TORCH")
    )
    _prepare(own)
    browser = find_browser() or _install_browser(own)
    tests = {"MODELFORGE_TEST_ALL": "1", "MODELFORGE_BROWSER": browser}
    if rest:
        return _become(own, ["-m", "pytest", *rest], tests)
    # What is killed, timed or looked at has the machine for itself. The rest shares the cores, with
    # one thread each: more would only wait for each other.
    sharing = ["-n", "auto", f"--maxprocesses={MOST_AT_ONCE}"]
    apart = [f"--ignore={folder}" for folder in ALONE]
    failed = _pytest(own, [*sharing, *apart], tests | {"OMP_NUM_THREADS": "1"})
    return _pytest(own, ALONE, tests) or failed


def _pytest(own: argparse.Namespace, arguments: Sequence[str], tests: dict[str, str]) -> int:
    command = [str(_wish(own).python), "-m", "pytest", *arguments]
    return subprocess.call(command, cwd=ROOT, env=child_environment(own.home) | tests)


def _own_options(rest: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="launch.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--home", type=lambda given: Path(given).expanduser().resolve())
    parser.add_argument("--torch", default=os.environ.get("MODELFORGE_TORCH"))
    parser.add_argument("--with", dest="extras", action="append", default=[])
    own, passed = parser.parse_known_args(rest)
    own.home = own.home or default_home()
    return own, passed


def _wish(own: argparse.Namespace) -> SetupOptions:
    extras = frozenset(name for given in own.extras for name in given.split(",") if name)
    return SetupOptions(ROOT, own.home, extras, own.torch)


def _prepare(own: argparse.Namespace) -> bool:
    """Set up what is missing; say whether anything was."""
    setup = Setup(_wish(own))
    missing = setup.missing()
    if len(missing) > 1:
        sys.stdout.write(f"Setting up ModelForge, once, in {ROOT / '.venv'}.\n")
    began = time.monotonic()
    if not setup.run():
        return False
    sys.stdout.write(f"Set up in {time.monotonic() - began:.0f} s.\n")
    return True


def _install_browser(own: argparse.Namespace) -> str:
    """Fetch a browser for the tests, by Playwright or by apt, and return its path."""
    log = ROOT / ".setup" / "setup.log"
    env = child_environment(own.home)
    env |= {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": BROWSER_WAIT_MS}
    env |= {"DEBIAN_FRONTEND": "noninteractive"}
    ways = [[[str(_wish(own).python), "-m", "playwright", "install", "chromium"]]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        ways.append([["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]])
    for way in ways:
        line = StageLine("[tests] Browser")
        # A failed update still leaves the lists of the day before.
        codes = [run_watched(command, line, log, env=env, cwd=ROOT).code for command in way]
        found = find_browser() if codes[-1] == 0 else None
        line.end("done" if found else f"{way[-1][0]} did not bring one")
        if found:
            return found
    raise SetupError(
        "The tests need a browser and none could be installed; install Chromium or Chrome, or "
        f"name one in MODELFORGE_BROWSER, then run the tests again (the output is in {log})."
    )


def _become(
    own: argparse.Namespace, arguments: list[str], more: dict[str, str] | None = None
) -> int:
    """Run Python of the environment in place of this process, or wait for it on Windows."""
    command = [str(_wish(own).python), *arguments]
    env = child_environment(own.home) | (more or {})
    os.chdir(ROOT)
    sys.stdout.flush()
    if platform.system() != "Windows":
        os.execve(command[0], command, env)
    with subprocess.Popen(command, env=env) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # Ctrl+C reached the child as well; it ends in its own way.
