"""The loop of torch alone trains the same model as the one that the app builds."""

from __future__ import annotations

import numpy as np
import pytest

from modelforge.config.pretraining.shape import shape_of_depth

pytestmark = pytest.mark.torch

NAMES = {
    "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v",
    "self_attn.o_proj": "o", "mlp.fc1": "up", "mlp.fc2": "down",
}  # fmt: skip
SETTINGS = {
    "vocabulary": 64, "width": 32, "layers": 2, "heads": 2, "context": 16, "rows": 4,
    "accumulation": 2, "steps": 30, "seed": 1, "decay": 0.5, "threads": 1,
    "rates": {"matrix": 0.01, "embedding": 0.1, "head": 0.01},
}  # fmt: skip


def test_its_model_is_the_nanochat_of_transformers():
    import torch

    from bench.bare_pretraining import Decoder
    from modelforge.modeling.pretraining.build import build_model

    shape = shape_of_depth(2, aspect_ratio=16, head_dim=16, vocab_size=64, context=16)
    ours = build_model(shape, seed=3, zero_projections=False)
    bare = Decoder(64, shape.width, shape.layers, shape.heads, shape.context)
    weights = dict(ours.named_parameters())
    with torch.no_grad():
        for weight in ours.parameters():
            weight.mul_(10)
        bare.embedding.weight.copy_(weights["model.embed_tokens.weight"])
        bare.head.weight.copy_(weights["lm_head.weight"])
        for number, block in enumerate(bare.blocks):
            for theirs, name in NAMES.items():
                own = getattr(block, name).weight
                own.copy_(weights[f"model.layers.{number}.{theirs}.weight"])
    assert sum(w.numel() for w in bare.parameters()) == shape.parameters
    ids = torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bare(ids), ours(ids).logits.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_it_learns(tmp_path, optimizer):
    from bench.bare_pretraining import main

    path = tmp_path / "tokens.bin"
    np.tile(np.arange(64), 40).astype("<u2").tofile(path)
    steps = main(str(path), {**SETTINGS, "optimizer": optimizer})
    losses = [step["loss"] for step in steps]
    assert losses[0] == pytest.approx(np.log(64), abs=0.05)
    assert losses[-1] < 1.0
    assert len(steps) == 30


def test_each_window_is_read_once_in_a_pass(tmp_path):
    from bench.bare_pretraining import windows

    path = tmp_path / "tokens.bin"
    np.arange(16 * 8 + 1).astype("<u2").tofile(path)
    batches = windows(str(path), SETTINGS)
    seen = []
    for _ in range(2):
        ids, targets = next(batches)
        assert (targets == ids + 1).all()
        seen += ids[:, 0].tolist()
    assert sorted(seen) == list(range(0, 128, 16))
