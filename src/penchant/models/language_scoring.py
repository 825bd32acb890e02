"""The forward pass of a language model that preference training needs: from tokens to the log-probs of some of them.

It is a module of its own so that a distributed wrapper wraps exactly what is called. `tree` takes packed rows
(`likelihoods.packing`); `plain` is the reference path of the tests and of models that follow no foreign mask.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.likelihoods.packing import Packed, Row
from penchant.likelihoods.token_divergence import TokenLogits, TokenStates
from penchant.likelihoods.token_log_probs import Head, token_log_probs
from penchant.models.tree_attention import along_branches, tree_of
from penchant.types import Asked, TokenScores

# Model types whose attention, given positions and an additive mask, is tested to score a branch exactly as a row of its
# own (tests/models/test_causal_lm.py builds each). Recurrent and linear attention cannot: their state has no mask.
FOLLOW_MASKS = frozenset(
    {
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi",
        "phi3",
        "gpt2",
        "gpt_neox",
        "olmo",
        "olmo2",
        "granite",
        "cohere",
        "smollm3",
        "starcoder2",
        "stablelm",
        "glm",
    }
)


class LanguageScoring(nn.Module):
    """Token scores of a transformers causal language model, and the forecasts of the value network beside it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.value: ValueNetwork | None = None

    def forward(self, work: Packed | dict[str, Tensor], asked: Asked | None) -> Any:
        """`Packed` rows -> `TokenScores` [N]; a dict of padded rows -> [R, L - 1], one value for every token but the
        first. Without `asked` the value network's forecasts [N] before each target of packed rows.
        """
        if asked is None:
            return self._forecast(work)
        return self._tree(work, asked) if isinstance(work, Packed) else self._plain(work, asked)

    def _tree(self, packed: Packed, asked: Asked) -> TokenScores:
        hidden_ND = _autocast(states(self.model, packed))
        head = head_of(self.model).cooled(asked.temperature)
        logp_N, collision_N = token_log_probs(hidden_ND, packed.target_N, head, collision=asked.collision)
        kept = None
        if asked.distributions:
            kept = TokenStates(hidden_ND=hidden_ND, head=head if torch.is_grad_enabled() else head.kept())
        return TokenScores(logp=logp_N, collision=collision_N, distributions=kept)

    def _forecast(self, packed: Any) -> Tensor:
        if self.value is None:
            raise ModelError("has no value network.", remedy="call add_value() on the model first.")
        return self.value.head(states(self.value.trunk, packed)).float()[:, 0]

    def _plain(self, rows: dict[str, Tensor], asked: Asked) -> TokenScores:
        logits = self.model(input_ids=rows["tokens"], attention_mask=rows["mask"], use_cache=False).logits[:, :-1]
        logits = (logits if logits.dtype == torch.float64 else logits.float()) / asked.temperature
        logp = torch.log_softmax(logits, -1)
        return TokenScores(
            logp=logp.gather(-1, rows["tokens"][:, 1:, None])[..., 0],
            collision=(2 * logp.detach()).logsumexp(-1) if asked.collision else None,
            distributions=TokenLogits(logp=logp) if asked.distributions else None,
        )


class ValueNetwork(nn.Module):
    """Forecasts the reward to come from what is written so far: a copy of the policy's trunk, and one number a token.

    As in MusicRL the weights start from the policy's and are nobody else's (phi and theta are separate). The head is
    zero at first but for its bias, which is to be set to the mean reward: a forecast of zero makes every advantage the
    whole reward, and the first updates then only raise whatever was drawn.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(model)
        # The vocabulary's head forecasts nothing: tied it is the embedding, untied it goes.
        tied = self.trunk.get_output_embeddings().weight is self.trunk.get_input_embeddings().weight
        if not tied:
            self.trunk.set_output_embeddings(nn.Identity())
        self.head = nn.Linear(self.trunk.get_input_embeddings().embedding_dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


def states(model: Any, packed: Packed) -> Tensor:
    """Last hidden states [N, D] at the places that predict completion tokens."""
    embed = model.get_input_embeddings()
    # Looked up once for all rows: the gradient of an embedding is as large as its table.
    rows = [len(row.tokens_L) for row in packed.rows]
    embedded = embed(torch.cat([row.tokens_L for row in packed.rows])).split(rows)
    with along_branches(model) as follows:
        found = [_states(model, row, part, follows) for row, part in zip(packed.rows, embedded, strict=True)]
    return torch.cat(found)


def _states(model: Any, row: Row, embedded_LD: Tensor, follows: bool) -> Tensor:
    output = model.base_model(
        inputs_embeds=embedded_LD[None],
        position_ids=row.position_L[None],
        attention_mask=_masks(model.config, row, embedded_LD.dtype),
        use_cache=False,
        **({"tree": tree_of(row, embedded_LD.dtype)} if follows else {}),
    )
    return output.last_hidden_state[0, row.reads_M]


def _autocast(hidden_ND: Tensor) -> Tensor:
    """In the type of an autocast that is on: it does not reach products that are written into a buffer."""
    kind = hidden_ND.device.type
    return hidden_ND.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden_ND


def head_of(model: Any) -> Head:
    """The output layer with the factors that some families put around it."""
    layer, config = model.get_output_embeddings(), model.config
    scale = getattr(config, "logit_scale", None) or 1 / getattr(config, "logits_scaling", 1.0)
    return Head(
        weight_VD=layer.weight,
        bias_V=getattr(layer, "bias", None),
        scale=float(scale),
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def follows_masks(model: Any) -> bool:
    """Whether the tree path scores this model exactly."""
    plain_head = type(model.get_output_embeddings()) is nn.Linear
    return model.config.model_type in FOLLOW_MASKS and plain_head


def _masks(config: Any, row: Row, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """Additive masks [1, 1, L, L]; one for each kind of attention layer where a family has several."""

    def additive(window: int | None) -> Tensor:
        seen = row.sees(window)
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[
            None, None
        ]

    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return additive(window)
    wide = additive(None)
    narrow = additive(window) if "sliding_attention" in kinds else wide
    return {"full_attention": wide, "sliding_attention": narrow}
