"""Muon for the matrices of a model: orthogonalized momentum, with the row statistics of NorMuon.

Muon: https://kellerjordan.github.io/posts/muon/. Size of its updates: arXiv 2502.16982. NorMuon:
arXiv 2510.05491. Polar Express: arXiv 2505.16932. Cautious weight decay: arXiv 2510.12402.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Muon

# Coefficients of a polynomial a x + b x^3 + c x^5 of the singular values.
Polynomial = tuple[float, float, float]
NEWTON_SCHULZ: tuple[Polynomial, ...] = ((3.4445, -4.7750, 2.0315),) * 5
# Five steps, for singular values from 0.001 to 1, with the safety factor 1.02.
POLAR_EXPRESS: tuple[Polynomial, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
POLAR_MARGIN = 1.02
SMALLEST_NORM = 1e-7
# The root mean square of an update of AdamW, to which updates are scaled.
ADAMW_RMS = 0.2


def orthogonalize(
    matrix: torch.Tensor, polynomials: Sequence[Polynomial], margin: float = 1.0
) -> torch.Tensor:
    """Return a matrix with the same singular vectors and singular values near 1, in bfloat16.

    Args:
        matrix: Shape (rows, columns).
        polynomials: Applied to the singular values one after the other.
        margin: How many times the Frobenius norm of the matrix it is divided by before.
    """
    is_tall = matrix.size(0) > matrix.size(1)
    x = matrix.bfloat16()
    x = x.T if is_tall else x
    x = x / (margin * x.norm()).clamp(min=SMALLEST_NORM)
    for a, b, c in polynomials:
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def normalize_rows(update: torch.Tensor, mean_square: torch.Tensor, beta2: float) -> torch.Tensor:
    """Divide each row of an update by the root of its running mean square; keep the total norm.

    Both tensors are changed. `mean_square` has the shape (rows, 1), or (1, columns) for the columns
    of a wide matrix.
    """
    dim = 1 if mean_square.size(1) == 1 else 0
    norm = update.norm()
    mean = torch.linalg.vector_norm(update, dim=dim, keepdim=True).square() / update.size(dim)
    mean_square.lerp_(mean, 1 - beta2)
    update.div_(mean_square.sqrt().clamp(min=1e-10))
    return update.mul_(norm / update.norm().clamp(min=1e-10))


def _kept(update: torch.Tensor, weight: torch.Tensor, decay: float) -> torch.Tensor:
    """Return what cautious decay multiplies a weight by: 1 where the update makes it larger."""
    return (update * weight).ge_(0).mul_(-decay).add_(1)


class ExtendedMuon(Muon):
    """torch's Muon with the division by rows of NorMuon, and with cautious weight decay.

    State of a weight: `momentum_buffer` of its shape, and with `normalizes` a `mean_square` of its
    rows, or of the columns of a matrix that is wider than high. Where `cautious`, a weight decays
    only if the update makes it smaller too.
    """

    def __init__(
        self, params: Any, *, normalizes: bool, beta2: float, cautious: bool, **options: Any
    ) -> None:
        super().__init__(params, **options)
        self._normalizes, self._beta2, self._cautious = normalizes, beta2, cautious

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every weight that has a gradient; return the loss of `closure`."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._update(weight, group)
        return loss

    def _update(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        update, rate = self._direction(weight, group["momentum"]), group["lr"]
        if decay := rate * group["weight_decay"]:
            weight.mul_(_kept(update, weight, decay) if self._cautious else 1 - decay)
        weight.add_(update, alpha=-rate * self._factor(update, group["adjust_lr_fn"]))

    def _direction(self, weight: torch.Tensor, momentum: float) -> torch.Tensor:
        """Return the orthogonalized momentum, divided by rows if configured."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None, "called for weights with a gradient"
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        steps, margin = (POLAR_EXPRESS, POLAR_MARGIN) if self._normalizes else (NEWTON_SCHULZ, 1.0)
        # With Nesterov's momentum, in place of the gradient, which the next step does not need.
        update = orthogonalize(gradient.lerp_(mean, momentum), steps, margin).to(weight.dtype)
        if not self._normalizes:
            return update
        if "mean_square" not in state:
            rows, columns = weight.shape
            state["mean_square"] = weight.new_zeros((rows, 1) if rows >= columns else (1, columns))
        return normalize_rows(update, state["mean_square"], self._beta2)

    def _factor(self, update: torch.Tensor, scale: str) -> float:
        """Return the factor of an update by `scale`: match_rms_adamw or original."""
        rows, columns = update.shape
        if scale == "original":
            return math.sqrt(max(1.0, rows / columns))
        if not self._normalizes:
            return ADAMW_RMS * math.sqrt(max(rows, columns))
        # The same for an orthogonal matrix; the paper on NorMuon divides by the norm there is.
        norm = float(update.norm())
        return ADAMW_RMS * math.sqrt(rows * columns) / norm if norm else 0.0
