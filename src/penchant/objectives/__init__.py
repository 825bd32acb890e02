"""Objectives: how log-probs and scores become one loss; one paper, one file."""

from penchant.objectives.advantages import (
    Advantage,
    ClippedAdvantage,
    GroupRelative,
    LeaveOneOut,
    RawAdvantage,
    Whitened,
    decoupled,
)
from penchant.objectives.aot import AOT, AOTUnpaired
from penchant.objectives.apo import APODown, APOZero
from penchant.objectives.bco import BCO
from penchant.objectives.bnpo import BNPO
from penchant.objectives.bradley_terry import bradley_terry_loss
from penchant.objectives.cispo import CISPO
from penchant.objectives.cpo import CPO
from penchant.objectives.dapo import DAPO
from penchant.objectives.diffusion_nft import DiffusionNFT
from penchant.objectives.discopop import DiscoPOP
from penchant.objectives.divergences import AlphaDivergence, Divergence, ForwardKL, JensenShannon, ReverseKL
from penchant.objectives.dpo import DPO, RobustDPO
from penchant.objectives.dr_grpo import DrGRPO
from penchant.objectives.dspo import DSPO
from penchant.objectives.exo import EXO
from penchant.objectives.expert_iteration import ExpertIteration
from penchant.objectives.gmpo import GMPO
from penchant.objectives.grpo import GRPO
from penchant.objectives.gspo import GSPO, LUSPO
from penchant.objectives.hinge import Hinge
from penchant.objectives.ipo import IPO
from penchant.objectives.irepo import IREPO
from penchant.objectives.kto import KTO, APOZeroUnpaired, DiffusionKTO
from penchant.objectives.ld_dpo import LDDPO
from penchant.objectives.length_normalised import LengthNormalisedDPO
from penchant.objectives.listwise import ListNet, PlackettLuce
from penchant.objectives.mapo import MaPO
from penchant.objectives.mixture import Mixture
from penchant.objectives.nca import NCA
from penchant.objectives.orpo import ORPO
from penchant.objectives.ppo import PPO
from penchant.objectives.prompt_history import PromptHistory
from penchant.objectives.rankdpo import RankDPO
from penchant.objectives.reference_free import ReferenceFree
from penchant.objectives.reinforce import REINFORCE
from penchant.objectives.reward_weights import (
    ClippedWeight,
    ExpWeight,
    RawWeight,
    RewardWeight,
    SelfNormalisedWeight,
    SoftmaxWeight,
)
from penchant.objectives.rloo import RLOO
from penchant.objectives.rwr import RWR
from penchant.objectives.sapo import SAPO
from penchant.objectives.sft import SFT
from penchant.objectives.simpo import SimPO
from penchant.objectives.sppo import SPPO
from penchant.objectives.tpo import TPO
from penchant.objectives.vespo import VESPO
from penchant.objectives.wpo import WPO
from penchant.types import Objective

OBJECTIVES: dict[str, type[Objective]] = {
    "sft": SFT,
    "rwr": RWR,
    "dpo": DPO,
    "robust_dpo": RobustDPO,
    "hinge": Hinge,
    "ipo": IPO,
    "irepo": IREPO,
    "simpo": SimPO,
    "cpo": CPO,
    "orpo": ORPO,
    "mapo": MaPO,
    "rankdpo": RankDPO,
    "plackett_luce": PlackettLuce,
    "listnet": ListNet,
    "dspo": DSPO,
    "kto": KTO,
    "diffusion_kto": DiffusionKTO,
    "apo_zero_unpaired": APOZeroUnpaired,
    "apo_zero": APOZero,
    "apo_down": APODown,
    "bco": BCO,
    "nca": NCA,
    "exo": EXO,
    "sppo": SPPO,
    "aot": AOT,
    "aot_unpaired": AOTUnpaired,
    "discopop": DiscoPOP,
    "length_normalised_dpo": LengthNormalisedDPO,
    "ld_dpo": LDDPO,
    "wpo": WPO,
    "tpo": TPO,
    "reinforce": REINFORCE,
    "rloo": RLOO,
    "grpo": GRPO,
    "bnpo": BNPO,
    "dr_grpo": DrGRPO,
    "dapo": DAPO,
    "cispo": CISPO,
    "gspo": GSPO,
    "luspo": LUSPO,
    "gmpo": GMPO,
    "sapo": SAPO,
    "vespo": VESPO,
    "ppo": PPO,
    "expert_iteration": ExpertIteration,
    "diffusion_nft": DiffusionNFT,
    "reference_free": ReferenceFree,
    "mixture": Mixture,
}

__all__ = [
    "AOT",
    "BCO",
    "BNPO",
    "CISPO",
    "CPO",
    "DAPO",
    "DPO",
    "DSPO",
    "EXO",
    "GMPO",
    "GRPO",
    "GSPO",
    "IPO",
    "IREPO",
    "KTO",
    "LDDPO",
    "LUSPO",
    "NCA",
    "OBJECTIVES",
    "ORPO",
    "PPO",
    "REINFORCE",
    "RLOO",
    "RWR",
    "SAPO",
    "SFT",
    "SPPO",
    "TPO",
    "VESPO",
    "WPO",
    "AOTUnpaired",
    "APODown",
    "APOZero",
    "APOZeroUnpaired",
    "Advantage",
    "AlphaDivergence",
    "ClippedAdvantage",
    "ClippedWeight",
    "DiffusionKTO",
    "DiffusionNFT",
    "DiscoPOP",
    "Divergence",
    "DrGRPO",
    "ExpWeight",
    "ExpertIteration",
    "ForwardKL",
    "GroupRelative",
    "Hinge",
    "JensenShannon",
    "LeaveOneOut",
    "LengthNormalisedDPO",
    "ListNet",
    "MaPO",
    "Mixture",
    "PlackettLuce",
    "PromptHistory",
    "RankDPO",
    "RawAdvantage",
    "RawWeight",
    "ReferenceFree",
    "ReverseKL",
    "RewardWeight",
    "RobustDPO",
    "SelfNormalisedWeight",
    "SimPO",
    "SoftmaxWeight",
    "Whitened",
    "bradley_terry_loss",
    "decoupled",
]
