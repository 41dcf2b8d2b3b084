"""The doctor's question to the card: is a 4-bit matrix product what it should be?"""

from __future__ import annotations

import json
import sys
import time

import torch
from bitsandbytes.nn import Linear4bit


def main() -> int:
    """Print how far a 4-bit layer is off from the same layer in float32, and how long it took."""
    began = time.monotonic()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    exact = torch.nn.Linear(256, 256, bias=False)
    layer = Linear4bit(256, 256, bias=False, compute_dtype=torch.float16, quant_type="nf4")
    layer.load_state_dict(exact.state_dict())
    layer = layer.to(device)
    rows = torch.randn(8, 256, device=device, dtype=torch.float16)
    with torch.no_grad():
        got = layer(rows).float()
        expected = exact.to(device)(rows.float())
    off = ((got - expected).abs().mean() / expected.abs().mean()).item()
    answer = {"device": device, "off": off, "seconds": time.monotonic() - began}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
