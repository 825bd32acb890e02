"""Margin-aware Preference Optimization, without a reference model (Hong et al., arXiv 2406.06424).

    m = -2 log pi = mean squared error,   phi(x) = x / (exp(x) - 1)  (1 at 0, falling to 0)
    loss = m_w + weight * softplus( -amplitude * [ phi(scale * m_w)^power - phi(scale * m_l)^power ] )

The released code (v1 of the paper) and v2 of the paper are different losses of this form:

| preset                   | weight   | amplitude | scale | power | source                                    |
|--------------------------|----------|-----------|-------|-------|-------------------------------------------|
| MaPO() = MaPO.code()     | 0.1      | 1000      | 0.5   | 1     | utils.compute_loss: beta_mapo, T, snr     |
| MaPO.paper_power(beta=8) | 1 / beta | 1         | 1     | beta  | v2 eq. 9-11, phi_beta read as an exponent |
| MaPO.paper_scale(beta=8) | 1 / beta | beta      | 1     | 1     | v2 eq. 9-11, phi_beta read as a product   |

v2 does not settle how beta enters phi_beta ("bounded within (0, 1)" favours the exponent, "scales proportionally" the
product); both are kept. v2 uses beta in {8, 32, 64, 128, 1024}.

Where we differ from the code:

1. x / (exp(x) - 1) is not a number at 0 and beyond 88, and one logit off at 5e-5; here phi goes through its logarithm.
2. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
3. On text, of which the paper says nothing, the error is -2 times the *mean* token log-prob. That is ours: a mean keeps
   m where phi still has a slope (a sum over hundreds of tokens leaves phi at 0), and makes length no reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import Pairing, margins, pair_weights
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput

# log(sinh(h) / h) = h^2/6 - h^4/180 + ...: Bernoulli numbers, 2^(2n-1) B_2n / (n (2n)!).
_SERIES = (
    1 / 6,
    -1 / 180,
    1 / 2835,
    -1 / 37800,
    1 / 467775,
    -691 / 3831077250,
    2 / 127702575,
    -3617 / 2605132530000,
)


def log_phi(x: Tensor) -> Tensor:
    """log(x / (exp(x) - 1)), exact in value and gradient for every finite x.

    With h = x / 2 it is -h - log(sinh(h) / h); the second term is even and known both as a series and in stable form.

        >>> log_phi(torch.tensor([0.0, 1.0, 1e4])).exp()
        tensor([1.0000, 0.5820, 0.0000])
    """
    h = x / 2
    near = h.abs() < 0.5
    # Each branch sees only arguments it is good at, so that the branch not taken has no gradient to spoil.
    square = torch.where(near, h, 0).square()
    series = torch.zeros_like(h)
    for coefficient in reversed(_SERIES):
        series = square * (series + coefficient)
    far = torch.where(near, 1, h.abs())
    return -h - torch.where(near, series, far + torch.log1p(-torch.exp(-2 * far)) - torch.log(2 * far))


@dataclass(frozen=True, kw_only=True)
class MaPO(Objective):
    """The winner's error plus a bounded-margin term on the errors; no reference.

    Args:
        beta: weight of the margin term (beta_mapo of the code).
        amplitude: factor in front of the margin (the code's 1000 training timesteps).
        scale: factor on the error inside phi (the code's snr_value).
        power: exponent of phi.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(density=frozenset({"bound", "exact"}))
    cite: ClassVar[tuple[str, ...]] = ("hong2024mapo",)

    beta: float = 0.1
    amplitude: float = 1000.0
    scale: float = 0.5
    power: float = 1.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    @classmethod
    def code(cls) -> MaPO:
        """The loss of the authors' code."""
        return cls()

    @classmethod
    def paper_power(cls, beta: float = 8.0) -> MaPO:
        """v2 of the paper with phi_beta(m) = phi(m)^beta."""
        return cls(beta=1 / beta, amplitude=1.0, scale=1.0, power=beta)

    @classmethod
    def paper_scale(cls, beta: float = 8.0) -> MaPO:
        """v2 of the paper with phi_beta(m) = beta * phi(m)."""
        return cls(beta=1 / beta, amplitude=beta, scale=1.0, power=1.0)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        error_BK = -2 * read.log_prob(inputs, "mean")
        # phi^power - 1 in place of phi^power: the ones cancel in every margin, and small errors keep their digits.
        reward_BK = self.amplitude * torch.expm1(self.power * log_phi(self.scale * error_BK))
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=self.tie_credit, dtype=reward_BK.dtype
        )
        logit_BKK = margins(reward_BK, weight_BKK)
        loss_BKK = error_BK[:, :, None] + self.beta * softplus(-logit_BKK)
        metrics = pair_metrics(inputs, reward_BK, factor_BKK=torch.sigmoid(-logit_BKK), weight_BKK=weight_BKK)
        return ObjectiveOutput(loss_B=(weight_BKK * loss_BKK).sum((-1, -2)), metrics=metrics)
