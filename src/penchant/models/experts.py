"""Two denoisers that divide the noise levels between them, as one module (Wan 2.2 A14B, arXiv 2503.20314 and its code).

The first answers from `boundary` up (much noise), the second below it. Each row of a call goes to its own expert, so a
batch of times trains both, and one adapter, one reference and one checkpoint cover both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn


@final
class Experts(nn.Module):
    """`transformer` for timesteps >= `boundary`, `transformer_2` for those below; the names are the pipeline's.

    Args:
        transformer: the expert for much noise.
        transformer_2: the expert for little noise.
        boundary: timestep in the denoisers' own unit, 1000 sigma.
    """

    def __init__(self, transformer: Any, transformer_2: Any, *, boundary: float) -> None:
        super().__init__()
        self.transformer, self.transformer_2, self.boundary = transformer, transformer_2, boundary

    def forward(self, *, timestep: Tensor, **inputs: Any) -> tuple[Tensor]:
        """What the experts answer, in the order of the rows.

        Args:
            timestep: [N], or [N, tokens] with one value a row.
            inputs: the other arguments of the experts; tensors [N, ...] are divided like the rows.
        """
        noisy_N = timestep.reshape(len(timestep), -1)[:, 0] >= self.boundary
        answers = []
        for expert, mine_N in ((self.transformer, noisy_N), (self.transformer_2, ~noisy_N)):
            index = mine_N.nonzero()[:, 0]
            if len(index):
                picked = {k: v[index] if isinstance(v, Tensor) else v for k, v in inputs.items()}
                answers.append((index, expert(timestep=timestep[index], **picked)[0]))
        order = torch.cat([index for index, _ in answers])
        return (torch.cat([answer for _, answer in answers])[order.argsort()],)

    # What the house asks of a denoiser of diffusers.

    def by_name(self) -> Mapping[str, Any]:
        """Both experts by their names in the pipeline."""
        return {"transformer": self.transformer, "transformer_2": self.transformer_2}

    def enable_adapters(self) -> None:
        """Switch both adapters on."""
        for expert in self.by_name().values():
            expert.enable_adapters()

    def disable_adapters(self) -> None:
        """Switch both adapters off."""
        for expert in self.by_name().values():
            expert.disable_adapters()

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in both."""
        for expert in self.by_name().values():
            expert.enable_gradient_checkpointing()
