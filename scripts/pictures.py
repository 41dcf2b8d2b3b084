"""Take the pictures of README.md in docs/pictures: real runs of a real server in a real browser.

    python scripts/pictures.py [HOME]

Without HOME a temporary home is made, with the starter model in it; a HOME needs the starter model
and no runs. Needs the extra `dev` and a Chromium or Chrome: MODELFORGE_BROWSER, an installed one,
or the one of `playwright install chromium`. Takes about 18 minutes on two slow CPU cores.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "pictures"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTH = 1280
COLORS = 200
STARTING_S, TRAINING_S, PAGE_MS = 120.0, 1200.0, 120_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OVER = ("finished", "stopped", "failed", "lost")
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
SHORT: dict[str, Any] = {
    "task": "text-generation",
    "model_name": "starter",
    "compute_specs": "low_end",
    "use_4bit": False,
    "max_seq_length": 128,
    "eval_steps": 8,
}
# The last one is shown alone.
RUNS: tuple[dict[str, Any], ...] = (
    {
        "dataset": "sample:units",
        "logging": {"run_name": "Units, rank 8"},
        "lora_r": 8,
        "max_steps": 12,
    },
    {"dataset": "sample:support", "logging": {"run_name": "Support desk"}, "max_steps": 12},
    {
        "dataset": "sample:units",
        "logging": {"run_name": "Units, rank 32"},
        "lora_r": 32,
        "max_steps": 16,
    },
    {"dataset": "sample:captain", "logging": {"run_name": "The captain"}, "max_steps": 40},
)


def main(arguments: list[str]) -> None:
    """Take the Train page of a new home, train the runs, and take the other pages."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with _home(arguments) as home, _serving(home) as url:
        with _browsing() as browser:
            _take(browser, "train", url)
        for settings in RUNS:
            run = _train(url, SHORT | settings)
        with _browsing() as browser:
            for name in PAGES.keys() - {"train"}:
                _take(browser, name, url, run)


def _take(browser: Browser, name: str, url: str, run: str = "") -> None:
    """Write a page in both color schemes."""
    path, height, show = PAGES[name]
    size: ViewportSize = {"width": WIDTH, "height": height}
    for scheme in SCHEMES:
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(url + path.format(run=run))
        page.wait_for_selector("[data-usable]", timeout=PAGE_MS)
        show(page)
        _save(page, TARGET / f"{name}-{scheme}.png")
        page.close()


def _show_train(page: Page) -> None:
    """Choose a sample and wait for its plan."""
    page.get_by_label("The captain").check()
    page.wait_for_selector('#start[aria-disabled="false"]', timeout=PAGE_MS)


def _show_run(page: Page) -> None:
    """Wait for the chart of the loss."""
    page.locator('[data-chart="loss"] canvas').wait_for()


def _show_runs(page: Page) -> None:
    """Wait for every run of the list."""
    page.locator(".runrow").nth(len(RUNS) - 1).wait_for()


# A picture's name, the address of its page, its height, and what makes the page ready.
PAGES: dict[str, tuple[str, int, Callable[[Page], None]]] = {
    "train": ("/", 900, _show_train),
    "run": ("/?run={run}", 900, _show_run),
    "runs": ("/runs", 460, _show_runs),
}


def _save(page: Page, path: Path) -> None:
    """Write the visible part of the page with a palette, which takes a third of the bytes."""
    from PIL import Image  # noqa: PLC0415 - the test of the names needs no picture

    page.wait_for_timeout(1500)  # charts and unfolding parts have settled
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


@contextmanager
def _home(arguments: list[str]) -> Iterator[Path]:
    """Yield the home with the starter model."""
    if arguments:
        yield Path(arguments[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        tool = "modelforge.train.tools.convert_starter"
        subprocess.run([sys.executable, "-m", tool, "--home", folder], cwd=ROOT, check=True)
        yield Path(folder)


@contextmanager
def _serving(home: Path) -> Iterator[str]:
    """Run the server and yield its address."""
    command = [sys.executable, "-m", "ui", "--home", str(home), "--no-browser"]
    log = home / "pictures.log"
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield _wait(lambda: _address(log), STARTING_S, "The server does not start")
    finally:
        server.terminate()
        server.wait(30)


def _address(log: Path) -> str | None:
    found = ADDRESS.search(log.read_text(encoding="utf-8", errors="replace"))
    return found[0] if found else None


@contextmanager
def _browsing() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    from modelforge.setup.browser import find_browser  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield browser
        browser.close()


def _train(url: str, settings: dict[str, Any]) -> str:
    """Train one run to its end and return its id; raises RuntimeError if it does not finish."""
    run = str(_call(f"{url}/api/runs", settings)["id"])
    print(f"{settings['logging']['run_name']}: {settings['max_steps']} steps", flush=True)

    def ended() -> str | None:
        state = _call(f"{url}/api/runs/{run}")["state"]
        return state if state in OVER else None

    state = _wait(ended, TRAINING_S, f"{run} does not end")
    if state != "finished":
        raise RuntimeError(f"{run} is {state}")
    return run


def _call(address: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()) from error
    return answer


def _wait(condition: Callable[[], str | None], limit_s: float, message: str) -> str:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.3)
    raise TimeoutError(f"{message} within {limit_s:.0f} s.")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
