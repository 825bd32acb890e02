"""Likelihoods: how likely a model finds a sample, brought to `LogProbs`."""

from penchant.likelihoods.as_flow import AsFlow
from penchant.likelihoods.autoregressive import Autoregressive
from penchant.likelihoods.denoising_path import DenoisingPath
from penchant.likelihoods.diffusion import Diffusion
from penchant.likelihoods.flow_matching import FlowMatching
from penchant.likelihoods.randomness import generator
from penchant.likelihoods.transitions import CPS, DDIM, DanceSDE, FlowSDE, Transition
from penchant.types import Likelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "diffusion": Diffusion,
    "flow_matching": FlowMatching,
    "autoregressive": Autoregressive,
    "denoising_path": DenoisingPath,
}

__all__ = [
    "CPS",
    "DDIM",
    "LIKELIHOODS",
    "AsFlow",
    "Autoregressive",
    "DanceSDE",
    "DenoisingPath",
    "Diffusion",
    "FlowMatching",
    "FlowSDE",
    "Transition",
    "generator",
]
