"""Choice of the torch build."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelforge.setup.torch_build import (
    INDEX,
    TORCH,
    VISION,
    NoBuildError,
    parse_version,
    read_cuda_version,
    torch_arguments,
    torchvision_arguments,
)

ROOT = Path(__file__).resolve().parents[2]
FROM_PYPI = [TORCH]


def from_index(build: str) -> list[str]:
    return [TORCH, "--no-deps", "--index-url", INDEX + build]


@pytest.mark.parametrize("driver", [None, "580.88", "535.104.05"])
def test_macos_uses_pypi_with_any_driver(driver: str | None) -> None:
    assert torch_arguments("Darwin", "arm64", driver) == FROM_PYPI


@pytest.mark.parametrize(
    ("driver", "capabilities", "linux", "windows"),
    [
        (None, [], None, None),
        ("581.15", [], None, "cu130"),
        ("580.00", [(8, 9)], None, "cu130"),
        ("580.88", [(12, 0)], None, "cu130"),
        ("580.88", [(6, 1)], "cu126", "cu126"),
        ("580.88", [(7, 0)], "cu126", "cu126"),
        ("579.99", [(8, 6)], "cu126", "cu126"),
        ("535.104.05", [(8, 6)], "cu126", "cu126"),
        ("528.33", [], "cu126", "cu126"),
        ("525.60.13", [], "cu126", None),
        ("470.82", [(7, 5)], None, None),
        ("571.96", [(12, 0)], None, None),
        ("unknown", [], None, None),
        # Several GPUs: the newest must be supported, then as many as possible.
        ("580.88", [(6, 1), (8, 6)], "cu126", "cu126"),
        ("580.88", [(12, 0), (6, 1), (6, 1)], None, "cu130"),
        ("580.88", [(3, 5), (8, 6)], None, "cu130"),
    ],
)
def test_the_build_suits_driver_and_gpus(
    driver: str | None,
    capabilities: list[tuple[int, ...]],
    linux: str | None,
    windows: str | None,
) -> None:
    for system, build in (("Linux", linux), ("Windows", windows)):
        expected = from_index(build) if build else FROM_PYPI
        assert torch_arguments(system, "x86_64", driver, capabilities=capabilities) == expected


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


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("cuda: Optional[str] = None", ""),
        ("cuda: Optional[str] = '12.6'", "12.6"),
        ('cuda = "13.0"', "13.0"),
    ],
)
def test_the_cuda_version_of_an_installed_torch_is_read(
    tmp_path: Path, text: str, version: str
) -> None:
    assert read_cuda_version(tmp_path) is None
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{text}\n", encoding="utf-8")
    assert read_cuda_version(tmp_path) == version


@pytest.mark.parametrize(
    ("version", "override", "index"),
    [
        ("2.13.0", None, []),
        ("2.13.0+cu126", None, ["--index-url", f"{INDEX}cu126"]),
        ("2.13.0+cu132", "torch --index-url https://a.org/x", ["--index-url", "https://a.org/x"]),
    ],
)
def test_torchvision_is_of_the_build_of_torch(
    version: str, override: str | None, index: list[str]
) -> None:
    expected = [VISION, "--no-deps", "--force-reinstall", *index]
    assert torchvision_arguments(version, override) == expected


def test_an_unknown_torch_gets_no_torchvision() -> None:
    assert torchvision_arguments("2.12.1+cu130") == torchvision_arguments("") == []
