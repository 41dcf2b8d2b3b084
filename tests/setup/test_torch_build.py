"""Choice of the torch build."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelforge.setup.torch_build import INDEX, TORCH, NoBuildError, parse_version, torch_arguments

ROOT = Path(__file__).resolve().parents[2]
FROM_PYPI = [TORCH]


def from_index(build: str) -> list[str]:
    return [TORCH, "--no-deps", "--index-url", INDEX + build]


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
@pytest.mark.parametrize("driver", [None, "580.88", "535.104.05"])
def test_linux_and_macos_use_pypi_with_any_driver(system: str, driver: str | None) -> None:
    assert torch_arguments(system, "arm64", driver) == FROM_PYPI


@pytest.mark.parametrize(
    ("driver", "capability", "expected"),
    [
        (None, None, FROM_PYPI),
        ("581.15", None, from_index("cu130")),
        ("580.00", (8, 9), from_index("cu130")),
        ("580.88", (12, 0), from_index("cu130")),
        ("580.88", (6, 1), from_index("cu126")),
        ("579.99", (8, 6), from_index("cu126")),
        ("528.33", None, from_index("cu126")),
        ("528.24", None, FROM_PYPI),
        ("472.12", (7, 5), FROM_PYPI),
        ("571.96", (12, 0), FROM_PYPI),
        ("unknown", None, FROM_PYPI),
    ],
)
def test_windows_uses_the_newest_supported_cuda_build(
    driver: str | None, capability: tuple[int, int] | None, expected: list[str]
) -> None:
    assert torch_arguments("Windows", "AMD64", driver, capability=capability) == expected


def test_an_override_is_used_unchanged() -> None:
    override = "torch==2.13.0 --index-url https://example.org/cu132"
    expected = ["torch==2.13.0", "--index-url", "https://example.org/cu132"]
    assert torch_arguments("Linux", "x86_64", "580.88", override) == expected
    assert torch_arguments("Darwin", "x86_64", None, override) == expected


def test_an_intel_mac_is_an_error() -> None:
    with pytest.raises(NoBuildError, match="Intel"):
        torch_arguments("Darwin", "x86_64", None)


def test_torch_is_pinned_in_the_constraints() -> None:
    assert TORCH in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_constraints_are_platform_independent() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 60
    assert all("==" in pin and "+" not in pin and "@" not in pin for pin in pins)


def test_a_version_is_parsed_up_to_the_first_non_number() -> None:
    assert parse_version("535.104.05") == (535, 104, 5)
    assert parse_version("13.0") == (13, 0)
    assert parse_version("N/A") == parse_version(None) == parse_version("") == ()


def test_torchvision_uses_the_index_of_torch():
    from modelforge.setup.torch_build import INDEX, TORCH, torchvision_arguments

    assert torchvision_arguments([TORCH]) == []
    assert torchvision_arguments([TORCH, "--no-deps", "--index-url", INDEX + "cu130"]) == [
        "torchvision==0.28.0", "--no-deps", "--index-url", INDEX + "cu130",
    ]  # fmt: skip
