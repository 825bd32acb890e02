"""Objectives: how log-probs and scores become one loss; one paper, one file."""

from penchant.objectives.dpo import DPO, RobustDPO
from penchant.objectives.dspo import DSPO
from penchant.objectives.hinge import Hinge
from penchant.objectives.ipo import IPO
from penchant.objectives.kto import KTO, APOZeroUnpaired, DiffusionKTO
from penchant.objectives.listwise import ListNet, PlackettLuce
from penchant.objectives.mapo import MaPO
from penchant.objectives.rankdpo import RankDPO
from penchant.objectives.sft import SFT
from penchant.types import Objective

OBJECTIVES: dict[str, type[Objective]] = {
    "sft": SFT,
    "dpo": DPO,
    "robust_dpo": RobustDPO,
    "hinge": Hinge,
    "ipo": IPO,
    "mapo": MaPO,
    "rankdpo": RankDPO,
    "plackett_luce": PlackettLuce,
    "listnet": ListNet,
    "dspo": DSPO,
    "kto": KTO,
    "diffusion_kto": DiffusionKTO,
    "apo_zero_unpaired": APOZeroUnpaired,
}

__all__ = [
    "DPO",
    "DSPO",
    "IPO",
    "KTO",
    "OBJECTIVES",
    "SFT",
    "APOZeroUnpaired",
    "DiffusionKTO",
    "Hinge",
    "ListNet",
    "MaPO",
    "PlackettLuce",
    "RankDPO",
    "RobustDPO",
]
