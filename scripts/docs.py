"""Write the generated pages: settings, REST, responses, events and map in docs/, README's map."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from modelforge.api.openapi_docs import events_markdown, responses_markdown, rest_markdown
from modelforge.api.router import openapi
from modelforge.config.json_schema import settings_markdown

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- map: written by scripts/docs.py -->", "<!-- end of map -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Write every generated page, or with `--check` say which are stale."""
    parser = argparse.ArgumentParser(prog="python scripts/docs.py")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when stale")
    check = parser.parse_args(argv).check
    stale = {page: text for page, text in pages().items() if _read(page) != text}
    for page, text in stale.items():
        if not check:
            page.write_text(text, encoding="utf-8", newline="\n")
        name = page.relative_to(ROOT)
        print(f"{name}: is stale; run `python scripts/docs.py`." if check else f"{name}: written.")
    return int(check and bool(stale))


def pages() -> dict[Path, str]:
    """Return every generated page with what it should hold."""
    docs = ROOT / "docs"
    return {
        docs / "settings.md": settings_markdown(),
        docs / "rest-api.md": rest_markdown(openapi()),
        docs / "responses.md": responses_markdown(openapi()),
        docs / "events.md": events_markdown(),
        docs / "map.md": whole_map(),
        ROOT / "README.md": with_map(_read(ROOT / "README.md")),
    }


def room_map() -> str:
    """Return README's map: one line a room, from the sentence its module or package opens with."""
    rooms = [*sorted((ROOT / "modelforge").iterdir()), ROOT / "ui"]
    lines = []
    for room in rooms:
        package = room / "__init__.py"
        name = room.relative_to(ROOT).as_posix()
        if package.is_file():
            lines.append(f"{name + '/':<26}{sentence(package)}")
        elif room.suffix == ".py" and not room.name.startswith("__"):
            lines.append(f"{name:<26}{sentence(room)}")
    return "\n".join(["```", f"{'launch.py':<26}{sentence(ROOT / 'launch.py')}", *lines, "```"])


def whole_map() -> str:
    """Return docs/map.md: every module with the sentence it opens with."""
    lines = ["# Map", "", "Every module and the question it answers."]
    for folder in sorted({file.parent for file in _modules()}):
        name = folder.relative_to(ROOT).as_posix()
        lines += ["", f"## {name}", "", sentence(folder / "__init__.py"), ""]
        inside = [file for file in _modules() if file.parent == folder]
        lines += [f"- `{file.name}`: {sentence(file)}" for file in inside if file.name[:2] != "__"]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def with_map(readme: str) -> str:
    """Return the README with today's map between its two marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md lost its marks {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{room_map()}\n{END}{after}"


def sentence(file: Path) -> str:
    """Return the line a module opens with."""
    opening = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return opening.split("\n\n")[0].replace("\n", " ")


def _modules() -> list[Path]:
    return sorted(file for top in ("modelforge", "ui") for file in (ROOT / top).rglob("*.py"))


def _read(page: Path) -> str:
    return page.read_text(encoding="utf-8") if page.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
