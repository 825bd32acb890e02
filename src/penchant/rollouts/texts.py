"""Completions as something to learn from, whoever drew them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from penchant.feedback.groups import Prompt
from penchant.models.completion import Completion
from penchant.types import Rollout


def text_rollout(prompt: Prompt, completion: Completion, model: Any) -> Rollout:
    """A completion as something to learn from; judges are given what an evaluation would give them, the opening
    included: a text, or the completion of a tune, which tells whether it ended."""
    said = prompt.opening + completion.text
    return Rollout(
        sample=replace(completion, text=said) if model.modality == "tune" else said,
        candidate={"tokens": torch.tensor(completion.tokens), "length": torch.tensor(len(completion.tokens))},
        behavior_T=torch.tensor(completion.log_probs),
        finished=completion.finished,
    )
