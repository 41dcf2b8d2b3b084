"""The pictures of README.md: each one that is shown exists, and the script takes it."""

from __future__ import annotations

import re

import pytest

from scripts.pictures import PAGES, SCHEMES, TARGET
from tests.conftest import ROOT

SHOWN = re.compile(r"""(?:src|srcset)="([^"]+\.png)"|\]\(([^)\s]+\.png)\)""")
MOST_BYTES = 300_000


def shown(page: str) -> set[str]:
    """Return the files of the pictures on a page of Markdown."""
    path = ROOT / page
    names = ("".join(found) for found in SHOWN.findall(path.read_text("utf-8")))
    return {(path.parent / name).resolve().relative_to(ROOT).as_posix() for name in names}


def test_the_readme_shows_every_page_of_the_script_in_light_and_dark() -> None:
    taken = {f"docs/pictures/{page}-{scheme}.png" for page in PAGES for scheme in SCHEMES}
    assert shown("README.md") == taken


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_a_picture_that_is_shown_exists_and_loads_quickly(page: str) -> None:
    pictures = [ROOT / name for name in shown(page)]
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG"), picture
        assert picture.stat().st_size < MOST_BYTES, picture


def test_no_picture_is_left_that_the_script_does_not_take() -> None:
    names = {file.name for file in TARGET.iterdir()}
    assert names == {f"{page}-{scheme}.png" for page in PAGES for scheme in SCHEMES}
