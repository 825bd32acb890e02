"""Formulas that overflow or lose digits where they are written down plainly."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def power_log(x: Tensor, k: float) -> Tensor:
    """(exp(k x) - 1) / k, and x itself at k = 0: the power transform of exp(x).

    exp overflows at 89 in float32. Beyond a third of that it goes on as its tangent, so that values, their squares and
    their gradients stay finite and never lose their sign.

        >>> power_log(torch.tensor([-0.5, 0.0, 0.5, 1e4]), 1.0).isfinite()
        tensor([True, True, True, True])
        >>> power_log(torch.tensor([0.5]), 1e-4)
        tensor([0.5000])
    """
    if k == 0:
        return x
    limit = math.log(torch.finfo(x.dtype).max) / 3
    scaled = k * x
    near = scaled < limit
    # Two branches, not one sum: a slope of exp(limit) that cancels would take all digits of the other with it.
    tangent = math.exp(limit) * (1 + torch.where(near, limit, scaled) - limit) - 1
    return torch.where(near, torch.expm1(torch.where(near, scaled, 0)), tangent) / k


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, held where 1 - exp(x) falls below the precision of the dtype.

    >>> log1mexp(torch.tensor([-1e-3, -20.0]))
    tensor([-6.9083e+00, -2.0612e-09])
    """
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near = x > -math.log(2)
    # Each branch sees only arguments it is good at, so that the branch not taken has no gradient to spoil.
    small, large = torch.where(near, x, -1), torch.where(near, -1, x)
    return torch.where(near, (-torch.expm1(small)).log(), torch.log1p(-large.exp()))
