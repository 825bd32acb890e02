"""Likelihoods: how likely a model finds a sample, brought to `LogProbs`."""

from penchant.likelihoods.autoregressive import Autoregressive
from penchant.likelihoods.diffusion import Diffusion
from penchant.likelihoods.flow_matching import FlowMatching
from penchant.likelihoods.randomness import generator
from penchant.types import Likelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "diffusion": Diffusion,
    "flow_matching": FlowMatching,
    "autoregressive": Autoregressive,
}

__all__ = ["LIKELIHOODS", "Autoregressive", "Diffusion", "FlowMatching", "generator"]
