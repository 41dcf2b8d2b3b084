"""Which torch suits which machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelforge.setup.torch_build import INDEX, TORCH, NoBuildError, parse_version, torch_arguments

ROOT = Path(__file__).resolve().parents[2]
PLAIN = [TORCH]


def from_index(build: str) -> list[str]:
    return [TORCH, "--no-deps", "--index-url", INDEX + build]


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
@pytest.mark.parametrize("driver", [None, "580.88", "535.104.05"])
def test_linux_and_macos_take_the_plain_index_whatever_the_driver(
    system: str, driver: str | None
) -> None:
    assert torch_arguments(system, "arm64", driver) == PLAIN


@pytest.mark.parametrize(
    ("driver", "capability", "expected"),
    [
        (None, None, PLAIN),
        ("581.15", None, from_index("cu130")),
        ("580.00", (8, 9), from_index("cu130")),
        ("580.88", (12, 0), from_index("cu130")),
        ("580.88", (6, 1), from_index("cu126")),
        ("579.99", (8, 6), from_index("cu126")),
        ("528.33", None, from_index("cu126")),
        ("528.24", None, PLAIN),
        ("472.12", (7, 5), PLAIN),
        ("571.96", (12, 0), PLAIN),
        ("unknown", None, PLAIN),
    ],
)
def test_windows_takes_the_newest_cuda_build_that_driver_and_card_can_run(
    driver: str | None, capability: tuple[int, int] | None, expected: list[str]
) -> None:
    assert torch_arguments("Windows", "AMD64", driver, capability=capability) == expected


def test_an_override_is_taken_as_it_stands() -> None:
    given = "torch==2.13.0 --index-url https://example.org/cu132"
    expected = ["torch==2.13.0", "--index-url", "https://example.org/cu132"]
    assert torch_arguments("Linux", "x86_64", "580.88", given) == expected
    assert torch_arguments("Darwin", "x86_64", None, given) == expected


def test_an_intel_mac_is_told_that_there_is_no_torch_for_it() -> None:
    with pytest.raises(NoBuildError, match="Intel"):
        torch_arguments("Darwin", "x86_64", None)


def test_the_pin_is_the_one_in_the_constraints() -> None:
    assert TORCH in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_constraints_hold_on_every_platform() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 60
    assert all("==" in pin and "+" not in pin and "@" not in pin for pin in pins)


def test_a_version_is_read_as_far_as_it_is_numbers() -> None:
    assert parse_version("535.104.05") == (535, 104, 5)
    assert parse_version("13.0") == (13, 0)
    assert parse_version("N/A") == parse_version(None) == parse_version("") == ()


def test_torchvision_comes_from_where_torch_came_from():
    from modelforge.setup.torch_build import INDEX, TORCH, vision_arguments

    assert vision_arguments([TORCH]) == []
    assert vision_arguments([TORCH, "--no-deps", "--index-url", INDEX + "cu130"]) == [
        "torchvision==0.28.0", "--no-deps", "--index-url", INDEX + "cu130",
    ]  # fmt: skip
