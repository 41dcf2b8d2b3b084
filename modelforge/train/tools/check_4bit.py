"""Check for `doctor`: print the error of a 4-bit matrix product on this machine."""

from __future__ import annotations

import json
import sys
import time

import torch
from bitsandbytes.nn import Linear4bit


def main() -> int:
    """Compare a 4-bit layer with the same layer in float32; print relative error and seconds."""
    began = time.monotonic()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    exact = torch.nn.Linear(256, 256, bias=False)
    layer = Linear4bit(256, 256, bias=False, compute_dtype=torch.float16, quant_type="nf4")
    layer.load_state_dict(exact.state_dict())
    layer = layer.to(device)
    rows = torch.randn(8, 256, device=device, dtype=torch.float16)
    with torch.no_grad():
        output = layer(rows).float()
        expected = exact.to(device)(rows.float())
    error = ((output - expected).abs().mean() / expected.abs().mean()).item()
    result = {"device": device, "off": error, "seconds": time.monotonic() - began}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
