"""penchant: align generative models of every modality to what people prefer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names are resolved on first use, so that `import penchant` loads no tensor library.
_EXPORTS = {
    "Evaluation": "penchant.recipe",
    "Preferences": "penchant.recipe",
    "Recipe": "penchant.recipe",
    "Rollouts": "penchant.recipe",
    "RewardTerm": "penchant.recipe",
    "Training": "penchant.recipe",
    "Decoding": "penchant.models.completion",
    "Policy": "penchant.models",
    "Reference": "penchant.references",
    "align": "penchant.run",
    "load": "penchant.models",
    "read": "penchant.feedback",
    "doctor": "penchant.feedback",
    "Autoregressive": "penchant.likelihoods",
    "Diffusion": "penchant.likelihoods",
    "FlowMatching": "penchant.likelihoods",
    "DenoisingPath": "penchant.likelihoods",
    "DPO": "penchant.objectives",
    "IPO": "penchant.objectives",
    "Hinge": "penchant.objectives",
    "KTO": "penchant.objectives",
    "DSPO": "penchant.objectives",
    "MaPO": "penchant.objectives",
    "RankDPO": "penchant.objectives",
    "PlackettLuce": "penchant.objectives",
    "ListNet": "penchant.objectives",
    "SFT": "penchant.objectives",
    "RWR": "penchant.objectives",
    "GRPO": "penchant.objectives",
    "RLOO": "penchant.objectives",
    "REINFORCE": "penchant.objectives",
    "PPO": "penchant.objectives",
    "DiffusionNFT": "penchant.objectives",
    "ExpertIteration": "penchant.objectives",
    "IREPO": "penchant.objectives",
    "SimPO": "penchant.objectives",
    "CPO": "penchant.objectives",
    "ORPO": "penchant.objectives",
    "WPO": "penchant.objectives",
    "TPO": "penchant.objectives",
    "Mixture": "penchant.objectives",
    "ReferenceFree": "penchant.objectives",
    "Pictures": "penchant.synthesis",
    "Pipeline": "penchant.synthesis",
    "Reward": "penchant.synthesis",
    "Synthesis": "penchant.synthesis",
    "synthesize": "penchant.synthesis",
    "PenchantError": "penchant.errors",
}

__all__ = [
    "CPO",
    "DPO",
    "DSPO",
    "GRPO",
    "IPO",
    "IREPO",
    "KTO",
    "ORPO",
    "PPO",
    "REINFORCE",
    "RLOO",
    "RWR",
    "SFT",
    "TPO",
    "WPO",
    "Autoregressive",
    "Decoding",
    "DenoisingPath",
    "Diffusion",
    "DiffusionNFT",
    "Evaluation",
    "ExpertIteration",
    "FlowMatching",
    "Hinge",
    "ListNet",
    "MaPO",
    "Mixture",
    "PenchantError",
    "Pictures",
    "Pipeline",
    "PlackettLuce",
    "Policy",
    "Preferences",
    "RankDPO",
    "Recipe",
    "Reference",
    "ReferenceFree",
    "Reward",
    "RewardTerm",
    "Rollouts",
    "SimPO",
    "Synthesis",
    "Training",
    "__version__",
    "align",
    "doctor",
    "load",
    "read",
    "synthesize",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'penchant' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


if TYPE_CHECKING:
    from penchant.errors import PenchantError
    from penchant.feedback import doctor, read
    from penchant.likelihoods import Autoregressive, DenoisingPath, Diffusion, FlowMatching
    from penchant.models import Policy, load
    from penchant.models.completion import Decoding
    from penchant.objectives import (
        CPO,
        DPO,
        DSPO,
        GRPO,
        IPO,
        IREPO,
        KTO,
        ORPO,
        PPO,
        REINFORCE,
        RLOO,
        RWR,
        SFT,
        TPO,
        WPO,
        DiffusionNFT,
        ExpertIteration,
        Hinge,
        ListNet,
        MaPO,
        Mixture,
        PlackettLuce,
        RankDPO,
        ReferenceFree,
        SimPO,
    )
    from penchant.recipe import Evaluation, Preferences, Recipe, RewardTerm, Rollouts, Training
    from penchant.references import Reference
    from penchant.run import align
    from penchant.synthesis import Pictures, Pipeline, Reward, Synthesis, synthesize
