"""The forward pass of MusicGen that preference training needs: from a grid of columns to the logits of every code.

transformers' `MusicgenForConditionalGeneration` leaves all of this to its caller: its `forward` delays nothing, neither
labels nor audio, and its own loss needs a `decoder_start_token_id` that the configuration does not have. So the grid is
built here (`delay.py`) and labels are never passed.

The null branch of classifier-free guidance is zeros in place of the text's states and a mask of zeros. Attention then
mixes values that are all zero, so any weights give zero: rows without a text attend everywhere, which no attention
kernel can turn into NaN, and the sums are those of transformers' `generate`.

Shape legend: R rows (one a candidate), P tokens of the prompt, Kq codebooks, T columns, V entries of a codebook.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.models import delay


class MusicScoring(nn.Module):
    """Logits of all codes of a decoder (`MusicgenForCausalLM`), every column given those before, and the forecasts of
    the value network beside it.

    A module of its own so that a distributed wrapper wraps exactly what is called.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder
        self.value: MusicValue | None = None

    def forward(
        self, grid_RKT: Int[Tensor, "R Kq T"], states_RPD: Tensor, heard_RP: Bool[Tensor, "R P"], guidance: float | None
    ) -> Tensor:
        """Logits [R, Kq, T, V] in at least float32; with a guidance of None the forecasts [R, T] before each column.

        Args:
            grid_RKT: delayed codes; the index V says nothing.
            states_RPD: states of the text, zero where `heard_RP` is False.
            heard_RP: which of them are a prompt's; a row without one is unconditional.
            guidance: scale s of classifier-free guidance, l_u + s * (l_c - l_u); 1 is the conditional branch alone.
        """
        inputs = delay.shifted(grid_RKT, silent=silent_of(self.decoder))
        if guidance is None:
            if self.value is None:
                raise ModelError("has no value network.", remedy="call add_value() on the model first.")
            return self.value(inputs, states_RPD, heard_RP)
        if guidance != 1.0:
            inputs, states_RPD, heard_RP = with_null(inputs, states_RPD, heard_RP)
        output = self.decoder(
            input_ids=inputs.flatten(0, 1),
            encoder_hidden_states=states_RPD,
            encoder_attention_mask=attended(heard_RP),
            use_cache=False,
        )
        return guided(output.logits.unflatten(0, (len(inputs), -1)), guidance)


class MusicValue(nn.Module):
    """Forecasts the reward to come from the columns so far: a copy of the decoder's trunk, and one number a column.

    As `language_scoring.ValueNetwork`: weights of its own, a head that is zero but for its bias.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(decoder.model)
        self.head = nn.Linear(decoder.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs_RKT: Tensor, states_RPD: Tensor, heard_RP: Tensor) -> Float[Tensor, "R T"]:
        """The forecast before each column that the inputs predict."""
        output = self.trunk(
            input_ids=inputs_RKT.flatten(0, 1),
            encoder_hidden_states=states_RPD,
            encoder_attention_mask=attended(heard_RP),
            use_cache=False,
        )
        return self.head(output.last_hidden_state).float()[..., 0]


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeLogits:
    """Distributions of every code, and where one is said; a column's is the product over its codebooks.

    The leading dimensions are those of a batch, R or B x K.
    """

    logp: Float[Tensor, "... Kq T V"]
    spoken: Bool[Tensor, "... Kq T"]

    @classmethod
    def of(cls, logits: Tensor, *, spoken: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Self:
        """From logits, guided already: temperature, then top-k, as transformers orders them."""
        return cls(logp=torch.log_softmax(filtered(logits / temperature, top_k), -1), spoken=spoken)

    def of_codes(self, grid: Int[Tensor, "... Kq T"]) -> Float[Tensor, "... T"]:
        """Log-prob of each column of a grid."""
        # Silence has no output; where it stands nothing is said.
        found = self.logp.gather(-1, grid.clamp(max=self.logp.shape[-1] - 1)[..., None])[..., 0]
        return self._summed(found)

    def collision(self) -> Float[Tensor, "... T"]:
        """Log-probability that two draws agree on a whole column, without gradient."""
        return self._summed((2 * self.logp.detach()).logsumexp(-1))

    def kl(self, other: CodeLogits) -> Float[Tensor, "... T"]:
        """KL(self || other) of each column in nats: the sum over its codebooks, as these are independent."""
        return self._summed((self.logp.exp() * (self.logp - other.logp)).sum(-1))

    def unflatten(self, groups: int) -> Self:
        """R rows as B groups of K candidates."""
        return type(self)(logp=self.logp.unflatten(0, (groups, -1)), spoken=self.spoken.unflatten(0, (groups, -1)))

    def _summed(self, value: Tensor) -> Tensor:
        return torch.where(self.spoken, value, 0).sum(-2)


def silent_of(decoder: Any) -> int:
    """The index that says nothing: one behind the last entry, in the embeddings of every codebook and in no head."""
    return int(decoder.config.vocab_size)


def with_null(inputs: Tensor, states: Tensor, heard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows, and behind them the same without a text."""
    return (
        torch.cat([inputs, inputs]),
        torch.cat([states, torch.zeros_like(states)]),
        torch.cat([heard, torch.zeros_like(heard)]),
    )


def attended(heard_RP: Bool[Tensor, "R P"]) -> Int[Tensor, "R P"]:
    """The mask of cross-attention; a row without a text attends everywhere, to zeros."""
    return (heard_RP | ~heard_RP.any(-1, keepdim=True)).long()


def guided(logits: Tensor, guidance: float) -> Float[Tensor, "R ..."]:
    """Classifier-free guidance of rows and the same rows without a text, as `with_null` orders them."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if guidance == 1.0:
        return logits
    with_text, without = logits.chunk(2)
    return without + guidance * (with_text - without)


def filtered(logits: Float[Tensor, "... V"], top_k: int | None) -> Float[Tensor, "... V"]:
    """Minus infinity below the k largest; equal ones at the edge all stay, as in transformers."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    least = logits.topk(top_k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def without_dropout(module: nn.Module) -> None:
    """Sets every dropout to zero, in place.

    MusicGen's decoder drops a tenth. With it policy and reference differ before the first step, and a rollout's
    log-probs are not those of the update. The configuration keeps its numbers, so a saved folder does too.
    """
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name in ("dropout", "activation_dropout", "attention_dropout", "layerdrop"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
