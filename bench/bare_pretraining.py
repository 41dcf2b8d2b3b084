"""A language model from nothing with torch alone: the model, the loop and its clock in one file.

The model is that of Transformers' NanoChat: rotary positions before the norms of queries and keys,
norms without weights, squared ReLU, a head of its own with soft caps at 15. Windows of the context
are read from a file of token ids; the loss is the mean over all of them. Matrices inside the layers
are trained by torch's Muon and the rest by AdamW, or all by AdamW.

SETTINGS is JSON:

    vocabulary, width, layers, heads, context    sizes; a head has width / heads dimensions
    rows                contexts per micro-step
    accumulation        micro-steps per step
    steps               optimizer steps
    seed                of the initial weights and the order of windows
    optimizer           muon or adamw
    rates               matrix, embedding, head: learning rates
    decay               share of the steps at the end in which the rates fall to 0
    threads             of torch

python bench/bare_pretraining.py TOKENS.bin SETTINGS OUT.json
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

CAP = 15.0
THETA = 10_000.0


def norm(x: torch.Tensor) -> torch.Tensor:
    """Divide by the root mean square over the last dimension."""
    return F.rms_norm(x, (x.size(-1),), eps=1e-6)


class Block(nn.Module):
    """A decoder layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return the hidden states behind the layer, (rows, context, width)."""
        rows, length, width = x.shape
        h = norm(x)
        q, k, v = (
            layer(h).view(rows, length, self.heads, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        q, k = norm(turned(q, cos, sin)), norm(turned(k, cos, sin))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(F.relu(self.up(norm(x))).square())


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate pairs of dimensions, as NanoChat does."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), -1)


class Decoder(nn.Module):
    """A decoder of the shape of NanoChat."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        size = width // heads
        frequencies = THETA ** (-torch.arange(0, size, 2) / size)
        angles = torch.outer(torch.arange(context), frequencies)
        self.cos, self.sin = angles.cos(), angles.sin()
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.o.weight)
            nn.init.zeros_(block.down.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next tokens, (rows, context, vocabulary)."""
        x = norm(self.embedding(ids))
        for block in self.blocks:
            x = block(x, self.cos[: ids.size(1)], self.sin[: ids.size(1)])
        return CAP * torch.tanh(self.head(norm(x)) / CAP)


def optimizers(model: Decoder, settings: dict[str, Any]) -> list[torch.optim.Optimizer]:
    """Return the optimizers of all weights."""
    rates = settings["rates"]
    matrices = {"params": list(model.blocks.parameters()), "lr": rates["matrix"]}
    others = [
        {"params": [model.embedding.weight], "lr": rates["embedding"]},
        {"params": [model.head.weight], "lr": rates["head"]},
    ]
    if settings["optimizer"] == "adamw":
        others.append(matrices)
    adamw = torch.optim.AdamW(others, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0)
    if settings["optimizer"] == "adamw":
        return [adamw]
    muon = torch.optim.Muon([matrices], momentum=0.95, weight_decay=0.0)
    return [muon, adamw]


def windows(path: str, settings: dict[str, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield micro-batches of inputs and targets, (rows, context), without end."""
    ids, context = np.fromfile(path, "<u2").astype(np.int64), settings["context"]
    count = (len(ids) - 1) // context
    generator = torch.Generator().manual_seed(settings["seed"])
    while True:
        order = torch.randperm(count, generator=generator).numpy()
        for at in range(0, count - settings["rows"] + 1, settings["rows"]):
            rows = [
                ids[index * context : (index + 1) * context + 1]
                for index in order[at : at + settings["rows"]]
            ]
            batch = torch.from_numpy(np.stack(rows))
            yield batch[:, :-1], batch[:, 1:]


def main(path: str, settings: dict[str, Any]) -> list[dict[str, float]]:
    """Train, and return time and loss of each step."""
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    sizes = ("vocabulary", "width", "layers", "heads", "context")
    model = Decoder(**{name: settings[name] for name in sizes})
    parts = optimizers(model, settings)
    full = [[group["lr"] for group in part.param_groups] for part in parts]
    batches, steps, parts_of_step = windows(path, settings), [], settings["accumulation"]
    for step in range(settings["steps"]):
        total = 0.0
        for _ in range(parts_of_step):
            ids, targets = next(batches)
            loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()) / parts_of_step
            loss.backward()
            total += loss.item()
        left = (settings["steps"] - step) / max(1, math.ceil(settings["decay"] * settings["steps"]))
        for part, rates in zip(parts, full, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, left)
            part.step()
            part.zero_grad()
        steps.append({"t": time.time(), "loss": total})
    return steps


if __name__ == "__main__":
    found = main(sys.argv[1], json.loads(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found), encoding="utf-8")
