"""The backbones by name: what `config.json` and the command line call them."""

from __future__ import annotations

from penchant.reward_models.cnn import VideoCNN
from penchant.reward_models.language_trunk import LanguageTrunk
from penchant.reward_models.latent import GeneratorTrunk, LatentNetwork
from penchant.reward_models.network import BackboneSpec
from penchant.reward_models.qwen2_vl import Qwen2VL
from penchant.reward_models.transformer import VideoTransformer

BACKBONES: dict[str, type[BackboneSpec]] = {
    "video_transformer": VideoTransformer,
    "video_cnn": VideoCNN,
    "qwen2_vl": Qwen2VL,
    "generator_trunk": GeneratorTrunk,
    "latent_network": LatentNetwork,
    "language_trunk": LanguageTrunk,
}
