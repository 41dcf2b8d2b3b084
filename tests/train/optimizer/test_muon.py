"""Muon and NorMuon: the numbers of their papers, in torch alone."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch

SHAPES = [(6, 6), (12, 4), (4, 12)]


def matrix(rows, columns, seed=0):
    import torch

    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def stepped(shape, steps=3, *, of_torch=False, **options):
    """Return a weight after some steps with the gradients 0, 1, 2 ..."""
    import torch

    from modelforge.train.optimizer.muon import ExtendedMuon

    weight = torch.nn.Parameter(matrix(*shape, seed=9))
    ours = {"normalizes": False, "beta2": 0.9, "cautious": False}
    kind, own = (torch.optim.Muon, {}) if of_torch else (ExtendedMuon, ours)
    options = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.8} | own | options
    optimizer = kind([weight], **options)
    for step in range(steps):
        weight.grad = matrix(*shape, seed=step)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_without_its_additions_it_is_the_muon_of_torch(shape, scale):
    options = {"adjust_lr_fn": scale, "weight_decay": 0.3}
    ours, of_torch = stepped(shape, **options), stepped(shape, of_torch=True, **options)
    assert ours.sub(of_torch).abs().max() < 1e-6
    assert not ours.equal(stepped(shape, **options | {"momentum": 0.5}))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_orthogonalized_matrix_has_singular_values_near_one(shape):
    import torch

    from modelforge.train.optimizer import muon

    given = matrix(*shape)
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    for polynomials, margin, near in (
        (muon.NEWTON_SCHULZ, 1.0, 0.4),
        (muon.POLAR_EXPRESS, muon.POLAR_MARGIN, 0.2),
    ):
        found = muon.orthogonalize(given, polynomials, margin).float()
        values = torch.linalg.svdvals(found)
        assert (values - 1).abs().max() < near
        # The singular vectors stay.
        assert (u @ v - found).norm() < near * min(shape) ** 0.5


def normuon_of_the_paper(weight, gradients, rate, decay, beta1, beta2):
    """Return Algorithm 1 of arXiv 2510.05491 with Nesterov's momentum, in 64 bits.

    The orthogonalization is exact: U V^T of the singular value decomposition.
    """
    import torch

    weight = weight.double()
    momentum, second = torch.zeros_like(weight), torch.zeros(len(weight), 1).double()
    rows, columns = weight.shape
    for gradient in gradients:
        momentum = beta1 * momentum + (1 - beta1) * gradient.double()
        u, _, v = torch.linalg.svd(
            beta1 * momentum + (1 - beta1) * gradient.double(), full_matrices=False
        )
        orthogonal = u @ v
        second = beta2 * second + (1 - beta2) * (orthogonal**2).mean(1, keepdim=True)
        divided = orthogonal / second.sqrt()
        size = 0.2 * rate * (rows * columns) ** 0.5 / divided.norm()
        weight = weight - rate * decay * weight - size * divided
    return weight


@pytest.mark.parametrize("shape", [(6, 6), (40, 8)])
def test_normuon_is_the_algorithm_of_its_paper(shape):
    steps, rate = 4, 0.05
    options = {"normalizes": True, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.4}
    ours = stepped(shape, steps, lr=rate, momentum=0.8, beta2=0.9, **options)
    gradients = [matrix(*shape, seed=step) for step in range(steps)]
    begin = matrix(*shape, seed=9)
    paper = normuon_of_the_paper(begin, gradients, rate, 0.4, 0.8, 0.9)
    moved = (paper - begin).norm()
    # Singular values are near 1 and not 1, in 16 bits.
    assert (ours - paper).norm() < 0.03 * moved
    for other in (
        stepped(shape, steps, lr=rate, momentum=0.8, **options | {"normalizes": False}),
        stepped(shape, steps, lr=rate, momentum=0.8, beta2=0.9, **options | {"weight_decay": 0}),
        stepped(shape, steps, lr=rate, momentum=0.2, beta2=0.9, **options),
    ):
        assert (other - paper).norm() > 0.05 * moved


def test_the_mean_square_of_a_row_is_what_it_is_divided_by():
    import torch

    from modelforge.train.optimizer.muon import normalize_rows

    update = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    mean_square = torch.tensor([[1.0], [0.01]])
    found = normalize_rows(update.clone(), mean_square, 0.75)
    # 0.75 of the old value and 0.25 of (9 + 16) / 2, and of a hundredth of it.
    assert mean_square.flatten().tolist() == pytest.approx([3.875, 0.03875])
    # Both rows have the same size now, and the total norm is the old one.
    assert found.norm() == pytest.approx(float(update.norm()))
    assert found[0].tolist() == pytest.approx(found[1].tolist())


def test_columns_of_a_wide_matrix_are_divided():
    import torch

    from modelforge.train.optimizer.muon import ExtendedMuon

    for shape, expected in (((2, 6), (1, 6)), ((6, 2), (6, 1))):
        weight = torch.nn.Parameter(matrix(*shape))
        weight.grad = matrix(*shape, seed=1)
        optimizer = ExtendedMuon([weight], normalizes=True, beta2=0.9, cautious=True)
        optimizer.step()
        assert optimizer.state[weight]["mean_square"].shape == expected


def test_cautious_decay_shrinks_only_where_the_update_does():
    """arXiv 2510.12402: decay where update and weight have the same sign."""
    options = {"lr": 0.1, "momentum": 0.0}
    shape = (6, 6)
    begin, plain = matrix(*shape, seed=9), stepped(shape, 1, **options)
    update = (begin - plain) / 0.1
    agrees = update * begin >= 0
    assert 0 < agrees.sum() < agrees.numel()
    found = stepped(shape, 1, cautious=True, weight_decay=0.5, **options)
    decayed = begin * (1 - 0.05 * agrees) - 0.1 * update
    assert found.sub(decayed).abs().max() < 1e-6
    everywhere = stepped(shape, 1, cautious=False, weight_decay=0.5, **options)
    assert everywhere.sub(begin * 0.95 - 0.1 * update).abs().max() < 1e-6


def test_an_update_is_as_large_as_one_of_adamw():
    options = {"adjust_lr_fn": "match_rms_adamw", "lr": 1.0, "normalizes": True}
    for shape in SHAPES:
        moved = stepped(shape, 1, **options) - matrix(*shape, seed=9)
        assert moved.square().mean().sqrt() == pytest.approx(0.2, rel=0.01)
    # The original size: the spectral norm 1, times the root of rows over columns.
    tall = stepped((16, 4), 1, lr=1.0, normalizes=True, adjust_lr_fn="original")
    assert (tall - matrix(16, 4, seed=9)).norm() == pytest.approx(2 * 4**0.5, rel=0.1)
