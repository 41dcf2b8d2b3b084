"""The most floating point operations per second of a GPU, by its name."""

from __future__ import annotations

# Parts of the name, all in it, and dense TFLOPS of matrix products of 16-bit numbers added up in
# 32 bits, as the data sheets of the makers have them. The first line that fits rules.
_TFLOPS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("gb200",), 2500),
    (("b300",), 2250),
    (("b200",), 2250),
    (("b100",), 1800),
    (("h200", "nvl"), 836),
    (("h200",), 989),
    (("gh200",), 989),
    (("h100", "nvl"), 835),
    (("h100", "pcie"), 756),
    (("h100",), 989),
    (("h800", "pcie"), 756),
    (("h800",), 989),
    (("h20",), 148),
    (("a100",), 312),
    (("a800",), 312),
    (("a40",), 149.7),
    (("a30",), 165),
    (("a10",), 125),
    (("l40s",), 362),
    (("l40",), 181),
    (("l4",), 121),
    (("v100",), 125),
    (("t4",), 65),
    (("5090",), 209.5),
    (("5080",), 112.6),
    (("5070 ti",), 87.9),
    (("5070",), 61.7),
    (("4090",), 165.2),
    (("4080 super",), 104.4),
    (("4080",), 97.5),
    (("4070 ti super",), 88.2),
    (("4070 ti",), 80.2),
    (("4070 super",), 71),
    (("4070",), 58.3),
    (("4060 ti",), 44.1),
    (("4060",), 30.2),
    (("3090 ti",), 80),
    (("3090",), 71),
    (("3080 ti",), 68.2),
    (("3080",), 59.5),
    (("3070 ti",), 43.5),
    (("3070",), 40.6),
    (("3060 ti",), 32.4),
    (("3060",), 25.5),
)


def peak_flops(name: str) -> float | None:
    """Return the peak of a GPU in FLOPs per second; None for one that is not in the table.

    Names are those of the driver, such as `NVIDIA H200` or `NVIDIA GeForce RTX 4070 Ti SUPER`.
    Mobile GPUs have the names of faster ones, so none of them is known.
    """
    words = name.lower()
    if "laptop" in words or "mobile" in words or "max-q" in words:
        return None
    tokens = words.replace("-", " ").split()
    for parts, tflops in _TFLOPS:
        if all(_has(words, tokens, part) for part in parts):
            return tflops * 1e12
    return None


def _has(words: str, tokens: list[str], part: str) -> bool:
    """Return whether a name has a part: as a whole word, so that A10 is not A100."""
    return part in words if " " in part else part in tokens


def share_of_peak(flops: float, seconds: float, peak: float | None) -> float | None:
    """Return the model FLOPs utilization (MFU), from 0 to 1; None where the peak is unknown."""
    return flops / seconds / peak if peak and seconds > 0 else None
