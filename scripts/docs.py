"""Write the generated pages in docs/ and the map in the README; build the site."""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from modelforge.api.openapi_docs import events_markdown, responses_markdown, rest_markdown
from modelforge.api.router import openapi
from modelforge.config.coverage import coverage_markdown
from modelforge.config.json_schema import settings_markdown

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- map: written by scripts/docs.py -->", "<!-- end of map -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Write all generated pages, check them with `--check`, or build the site with `site`."""
    parser = argparse.ArgumentParser(prog="python scripts/docs.py")
    parser.add_argument("command", nargs="?", choices=["site"], help="build the site in build/site")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    options = parser.parse_args(argv)
    if options.command == "site":
        return build_site()
    check = options.check
    stale = {page: text for page, text in pages().items() if _read(page) != text}
    for page, text in stale.items():
        if not check:
            page.write_text(text, encoding="utf-8", newline="\n")
        name = page.relative_to(ROOT)
        print(f"{name}: is stale; run `python scripts/docs.py`." if check else f"{name}: written.")
    return int(check and bool(stale))


def pages() -> dict[Path, str]:
    """Return every generated page with its text."""
    docs = ROOT / "docs"
    return {
        docs / "settings.md": settings_markdown(),
        docs / "coverage.md": coverage_markdown(shown_effects()),
        docs / "rest-api.md": rest_markdown(openapi()),
        docs / "responses.md": responses_markdown(openapi()),
        docs / "events.md": events_markdown(),
        docs / "map.md": whole_map(),
        ROOT / "README.md": with_map(_read(ROOT / "README.md")),
    }


def shown_effects() -> dict[str, list[str]]:
    """Return the tests that show each setting, as tests/settings_effects.py lists them."""
    listed = runpy.run_path(str(ROOT / "tests" / "settings_effects.py"))
    return dict(listed["shown_effects"]())


def build_site() -> int:
    """Build the site in build/site with mkdocs, without network; return its exit code."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    return subprocess.call(command, cwd=ROOT, env=environment)


def package_map() -> str:
    """Return README's map: one line per package, from the first sentence of its docstring."""
    packages = [*sorted((ROOT / "modelforge").iterdir()), ROOT / "ui"]
    lines = []
    for path in packages:
        face = path / "__init__.py"
        name = path.relative_to(ROOT).as_posix()
        if face.is_file():
            lines.append(f"{name + '/':<26}{sentence(face)}")
        elif path.suffix == ".py" and not path.name.startswith("__"):
            lines.append(f"{name:<26}{sentence(path)}")
    return "\n".join(["```", f"{'launch.py':<26}{sentence(ROOT / 'launch.py')}", *lines, "```"])


def whole_map() -> str:
    """Return docs/map.md: every module with the first sentence of its docstring."""
    lines = ["# Modules", "", "Every module with the first sentence of its docstring."]
    for folder in sorted({file.parent for file in _modules()}):
        name = folder.relative_to(ROOT).as_posix()
        lines += ["", f"## {name}", "", sentence(folder / "__init__.py"), ""]
        inside = [file for file in _modules() if file.parent == folder]
        lines += [f"- `{file.name}`: {sentence(file)}" for file in inside if file.name[:2] != "__"]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def with_map(readme: str) -> str:
    """Return the README with the current map between its two marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md lost its marks {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{package_map()}\n{END}{after}"


def sentence(file: Path) -> str:
    """Return the first paragraph of a module's docstring."""
    opening = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return opening.split("\n\n")[0].replace("\n", " ")


def _modules() -> list[Path]:
    return sorted(file for top in ("modelforge", "ui") for file in (ROOT / top).rglob("*.py"))


def _read(page: Path) -> str:
    return page.read_text(encoding="utf-8") if page.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
