"""Small inputs for objectives: log-probs of a stated density, at a stated distance from the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from penchant.objectives import (
    DPO,
    IPO,
    OBJECTIVES,
    SFT,
    ExpWeight,
    ForwardKL,
    ReferenceFree,
    SimPO,
)
from penchant.types import Density, LogProbs, Objective, ObjectiveInputs, Statistics

# Betas that keep the logits of these small inputs in the interesting range.
TAME: dict[str, dict[str, Any]] = {
    "sft": {},
    "rwr": {"weight": ExpWeight(temperature=0.5, largest=4.0)},
    "dpo": {"beta": 2.0, "label_smoothing": 0.1},
    "robust_dpo": {"beta": 2.0},
    "hinge": {"beta": 0.4},
    "ipo": {"beta": 0.7},
    "irepo": {"beta": 2.0, "pairing": "all"},
    "simpo": {"beta": 2.0, "gamma": 0.5, "alpha": 0.25},
    "cpo": {"beta": 1.3, "label_smoothing": 0.1, "nll_weight": 0.7},
    "orpo": {"beta": 0.5},
    "mapo": {"amplitude": 8.0},
    "rankdpo": {"beta": 2.0},
    "plackett_luce": {"beta": 2.0},
    "listnet": {"beta": 2.0, "temperature": 0.5},
    "dspo": {"beta": 0.6},
    "kto": {"beta": 0.8, "undesirable_weight": 1.3, "threshold": 0.1},
    "diffusion_kto": {"beta": 0.8, "desirable_weight": 1.3, "threshold": 0.1},
    "apo_zero_unpaired": {"beta": 0.8, "threshold": 0.1},
    "apo_zero": {"beta": 0.8},
    "apo_down": {"beta": 0.8},
    "bco": {"beta": 0.8},
    "nca": {"beta": 0.8},
    "exo": {"beta": 2.0, "label_smoothing": 0.1},
    "sppo": {"beta": 0.7},
    "aot": {"beta": 2.0, "label_smoothing": 0.1},
    "aot_unpaired": {"beta": 2.0, "label_smoothing": 0.1},
    "discopop": {"beta": 1.5, "tau": 0.3},
    "length_normalised_dpo": {"beta": 3.0, "label_smoothing": 0.1},
    "ld_dpo": {"beta": 2.0, "alpha": 0.3, "label_smoothing": 0.1},
    "wpo": {"objective": IPO(beta=0.7)},
    "tpo": {"preference": SimPO(beta=2.0, gamma=0.5), "alpha": 0.7},
    "reinforce": {"alpha": 0.2, "value_weight": 0.7},
    "rloo": {"beta": 0.3},
    "grpo": {"beta": 0.4, "dual_clip": 1.1, "kl": "weighted_k3"},
    "bnpo": {"clip_low": 0.3},
    "dr_grpo": {"length": 7.0, "beta": 0.3, "kl": "exact"},
    "dapo": {"beta": 0.3, "kl": "k2"},
    "cispo": {"ceiling": 1.2, "beta": 0.2, "kl": "k1"},
    "gspo": {"clip_low": 0.1, "clip_high": 0.2},
    "luspo": {"clip_low": 0.1, "clip_high": 0.2},
    "gmpo": {"clip_low": 0.3, "beta": 0.2},
    "sapo": {"beta": 0.2},
    "vespo": {"beta": 0.1},
    "ppo": {"beta": 0.3, "value_clip": 0.3, "lam": 0.7},
    "expert_iteration": {"threshold": 0.1},
    "diffusion_nft": {"beta": 0.6, "adaptive": False},
    "reference_free": {"objective": DPO(beta=1.2, divergence=ForwardKL())},
    "mixture": {"parts": ((DPO(beta=2.0), 0.8), (ReferenceFree(objective=IPO(beta=0.7)), 0.5), (SFT(), 0.3))},
}
# These read the behavior's log-probs where there are any, and are on-policy where there are none.
BEHAVIOR_IF_GIVEN = {
    *("rloo", "grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo", "luspo", "gmpo", "sapo", "vespo", "ppo"),
}
BATCH_BASELINE = {"kto", "diffusion_kto", "aot", "aot_unpaired"}


def tame(name: str) -> Objective:
    return OBJECTIVES[name](**TAME[name])


def of_total(logp_BK: Tensor, density: Density = "bound") -> LogProbs:
    """Log-probs [B, K] as one step."""
    return LogProbs(
        step_BKT=logp_BK[:, :, None], mask_BKT=torch.ones_like(logp_BK, dtype=torch.bool)[:, :, None], density=density
    )


def pair(
    won: float, lost: float, reference: tuple[float, float] | None = (0.0, 0.0), **more: Any
) -> tuple[Tensor, ObjectiveInputs]:
    """(leaf log-probs, inputs) of one pair whose winner stands second."""
    leaf = torch.tensor([[lost, won]], dtype=torch.float64, requires_grad=True)
    fixed = None if reference is None else of_total(torch.tensor([reference[::-1]], dtype=torch.float64))
    inputs = ObjectiveInputs(
        policy=of_total(leaf),
        reference=fixed,
        scores_BK=torch.tensor([[0.0, 1.0]]),
        mask_BK=torch.ones(1, 2, dtype=torch.bool),
    )
    return leaf, replace(inputs, **more)


def loss(objective: Objective, *args: Any, **more: Any) -> float:
    return objective(pair(*args, **more)[1]).loss.item()


def slopes(objective: Objective, *args: Any, **more: Any) -> tuple[float, float]:
    """d loss / d log pi of (winner, loser)."""
    leaf, inputs = pair(*args, **more)
    objective(inputs).loss.backward()
    assert leaf.grad is not None
    lost, won = leaf.grad[0].tolist()
    return won, lost


def random_inputs(
    B: int = 4, K: int = 3, *, T: int = 3, density: Density = "bound", dtype: torch.dtype = torch.float64, seed: int = 0
) -> ObjectiveInputs:
    """Everything an objective may read; the policy's steps require a gradient. Scores are distinct."""
    g = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64)

    def kept(step: Tensor) -> LogProbs:
        return LogProbs(step_BKT=step.to(dtype), mask_BKT=steps, density=density)

    # Completions have lengths; denoising draws do not.
    lengths = torch.randint(1, T + 1, (B, K, 1), generator=g) if density == "exact" else torch.full((B, K, 1), T)
    steps = torch.arange(T).expand(B, K, T) < lengths
    reference = -0.6 * (normal(B, K, T).abs() + 0.5)
    policy = kept(reference + 0.3 * normal(B, K, T))
    scores = torch.stack([torch.randperm(K, generator=g) for _ in range(B)]).float() / K
    collision = -normal(B, K, T).abs().to(dtype) if density == "exact" else None
    return ObjectiveInputs(
        policy=replace(policy, step_BKT=policy.step_BKT.clamp(max=-0.01).requires_grad_(), collision_BKT=collision),
        reference=kept(reference),
        mismatched=(kept(reference + 0.3), kept(reference.flip(0))),
        divergence_BKT=normal(B, K, T).square().to(dtype),
        behavior=kept(reference + 0.3 * normal(B, K, T)),
        value_BKT=normal(B, K, T).to(dtype),
        behavior_value_BKT=normal(B, K, T).to(dtype),
        statistics=Statistics(steps=K * T - 1.5, mean=0.3, std=0.4),
        scores_BK=scores,
        mask_BK=torch.ones(B, K, dtype=torch.bool),
    )


def gradient(objective: Objective, inputs: ObjectiveInputs) -> Tensor:
    """d (sum of losses) / d (policy's steps)."""
    (grad,) = torch.autograd.grad(objective(inputs).loss_B.sum(), inputs.policy.step_BKT)
    return grad


def take(log_probs: LogProbs, index: Any) -> LogProbs:
    """Log-probs of some groups, or with (slice, order) of reordered candidates."""
    collision = None if log_probs.collision_BKT is None else log_probs.collision_BKT[index]
    return replace(
        log_probs, step_BKT=log_probs.step_BKT[index], mask_BKT=log_probs.mask_BKT[index], collision_BKT=collision
    )


def select(inputs: ObjectiveInputs, index: Any) -> ObjectiveInputs:
    """The same selection of every input."""
    assert inputs.reference is not None
    assert inputs.mismatched is not None
    others = {name: getattr(inputs, name) for name in ("divergence_BKT", "value_BKT", "behavior_value_BKT")}
    return ObjectiveInputs(
        policy=take(inputs.policy, index),
        reference=take(inputs.reference, index),
        mismatched=(take(inputs.mismatched[0], index), take(inputs.mismatched[1], index)),
        behavior=None if inputs.behavior is None else take(inputs.behavior, index),
        statistics=inputs.statistics,
        **{name: value[index] for name, value in others.items()},
        scores_BK=inputs.scores_BK[index],
        mask_BK=inputs.mask_BK[index],
    )


def steps(values: Any, lengths: Any = None, density: Density = "exact") -> LogProbs:
    """Log-probs [B, K, T], of which the first `lengths` [B, K] steps count."""
    step_BKT = torch.as_tensor(values, dtype=torch.float64)
    T = step_BKT.shape[-1]
    length_BK = torch.full(step_BKT.shape[:2], T) if lengths is None else torch.tensor(lengths)
    return LogProbs(step_BKT=step_BKT, mask_BKT=torch.arange(T) < length_BK[:, :, None], density=density)


def at_ratio(ratio: Any, score: Any, lengths: Any = None, **more: Any) -> ObjectiveInputs:
    """One group [1, K, T] whose policy stands at these ratios to its behavior."""
    ratio_KT, score_K = torch.tensor(ratio, dtype=torch.float64), torch.tensor(score, dtype=torch.float64)
    behavior = steps(torch.full_like(ratio_KT, -1.0)[None], None if lengths is None else [lengths])
    policy = replace(behavior, step_BKT=(ratio_KT.log()[None] - 1.0).requires_grad_())
    mask_BK = torch.ones(1, len(score_K), dtype=torch.bool)
    return ObjectiveInputs(policy=policy, behavior=behavior, scores_BK=score_K[None], mask_BK=mask_BK, **more)


def on_policy(**more: Any) -> ObjectiveInputs:
    """Three groups of three completions of different lengths, without a behavior and without statistics."""
    return replace(random_inputs(B=3, density="exact", T=4), behavior=None, statistics=None, **more)


def centred(inputs: ObjectiveInputs) -> Tensor:
    """Rewards minus their group's mean [B, K, 1]."""
    score_BK = inputs.scores_BK.double()
    return (score_BK - score_BK.mean(-1, keepdim=True))[:, :, None]
