"""The forward pass of a language model that preference training needs: from tokens to the log-probs of some of them.

It is a module of its own so that a distributed wrapper wraps exactly what is called. `tree` takes packed rows
(`likelihoods.packing`); `plain` is the reference path of the tests and of models that follow no foreign mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from penchant.likelihoods.packing import Packed, Row
from penchant.likelihoods.token_log_probs import Head, token_log_probs
from penchant.models.tree_attention import along_branches, tree_of

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
    """Token log-probs of a transformers causal language model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Packed | dict[str, Tensor], collision: bool) -> tuple[Tensor, Tensor | None]:
        """`Packed` rows -> [N]; a dict of padded rows -> [R, L - 1], one value for every token but the first."""
        return self._tree(work, collision) if isinstance(work, Packed) else self._plain(work, collision)

    def _tree(self, packed: Packed, collision: bool) -> tuple[Tensor, Tensor | None]:
        embed = self.model.get_input_embeddings()
        # Looked up once for all rows: the gradient of an embedding is as large as its table.
        rows = [len(row.tokens_L) for row in packed.rows]
        states = embed(torch.cat([row.tokens_L for row in packed.rows])).split(rows)
        with along_branches(self.model) as follows:
            found = [self._states(row, state, follows) for row, state in zip(packed.rows, states, strict=True)]
        return token_log_probs(_autocast(torch.cat(found)), packed.target_N, head_of(self.model), collision=collision)

    def _states(self, row: Row, embedded_LD: Tensor, follows: bool) -> Tensor:
        """Last hidden states at the places that predict completion tokens."""
        output = self.model.base_model(
            inputs_embeds=embedded_LD[None],
            position_ids=row.position_L[None],
            attention_mask=_masks(self.model.config, row, embedded_LD.dtype),
            use_cache=False,
            **({"tree": tree_of(row, embedded_LD.dtype)} if follows else {}),
        )
        return output.last_hidden_state[0, row.reads_M]

    def _plain(self, rows: dict[str, Tensor], collision: bool) -> tuple[Tensor, Tensor | None]:
        logits = self.model(input_ids=rows["tokens"], attention_mask=rows["mask"], use_cache=False).logits[:, :-1]
        logp = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), -1)
        found = logp.gather(-1, rows["tokens"][:, 1:, None])[..., 0]
        return found, (2 * logp.detach()).logsumexp(-1) if collision else None


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
