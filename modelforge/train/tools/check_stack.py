"""Check for `doctor` and set-up: import what a worker imports, and multiply on each device."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from modelforge.config.methods import METHOD_FACTS
from modelforge.config.providers import PROVIDER_FACTS
from modelforge.modeling.errors import explain
from modelforge.train import environment
from modelforge.train.worker import preload

SIZE = 256


def main(argv: Sequence[str] | None = None) -> int:
    """Print seconds and devices as JSON, or the reason of a failed import as one line."""
    parser = argparse.ArgumentParser(prog="python -m modelforge.train.tools.check_stack")
    parser.add_argument("--provider", choices=PROVIDER_FACTS, default="huggingface")
    parser.add_argument("--optional", action="append", default=[], help="a module that may fail")
    parser.add_argument("modules", nargs="*", help="further modules to import")
    options = parser.parse_args(argv)
    environment.configure_process()
    began = time.monotonic()
    try:
        for method in METHOD_FACTS:
            preload(options.provider, method)
        for module in options.modules:
            import_module(module)
        result = {
            "seconds": time.monotonic() - began,
            "devices": list(map(_check, _devices())),
            "broken": {name: what for name in options.optional if (what := _why_broken(name))},
        }
    except Exception as error:  # noqa: BLE001  # the outermost frame: a library may raise anything
        sys.stderr.write(f"{explain(error).what}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _why_broken(module: str) -> str:
    try:
        import_module(module)
    except Exception as error:  # noqa: BLE001  # a library may raise anything
        return explain(error).what
    return ""


def _devices() -> list[str]:
    import torch  # noqa: PLC0415  (after the provider)

    if torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def _check(device: str) -> dict[str, Any]:
    """Return the relative errors of matrix products on a device; in 4 bits on GPUs alone."""
    try:
        result: dict[str, Any] = {"device": device, "matmul": _matmul_error(device)}
        if device.startswith("cuda"):
            result["matmul_4bit"] = _matmul_4bit_error(device)
    except Exception as error:  # noqa: BLE001  # a driver may raise anything
        return {"device": device, "error": explain(error).what}
    return result


def _matmul_error(device: str) -> float:
    import torch  # noqa: PLC0415  (after the provider)

    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    return _relative(left.to(device) @ right.to(device), left.double() @ right.double())


def _matmul_4bit_error(device: str) -> float:
    import torch  # noqa: PLC0415  (after the provider)
    from bitsandbytes.nn import Linear4bit  # noqa: PLC0415  (after the provider)

    exact = torch.nn.Linear(SIZE, SIZE, bias=False)
    layer = Linear4bit(SIZE, SIZE, bias=False, compute_dtype=torch.float16, quant_type="nf4")
    layer.load_state_dict(exact.state_dict())
    rows = torch.randn(8, SIZE)
    with torch.no_grad():
        output = layer.to(device)(rows.to(device, torch.float16))
        return _relative(output, exact(rows).double())


def _relative(output: Any, expected: Any) -> float:
    off = (output.double().cpu() - expected).abs().mean() / expected.abs().mean()
    return float(off)


if __name__ == "__main__":
    raise SystemExit(main())
