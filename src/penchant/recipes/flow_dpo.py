"""Flow-DPO (Liu et al., arXiv 2501.13918) on Stable Diffusion 3.5 medium, as flow_grpo's train_sd3_dpo.py runs it.

| value            | value here           | source                                                    |
|------------------|----------------------|-----------------------------------------------------------|
| beta             | 100, constant in t   | config.train.beta; no weight w(t)                         |
| time             | logit-normal (0, 1)  | through the model's shift-3 schedule of 1000 steps        |
| adapter          | LoRA r 32, alpha 64  | attention projections                                     |
| learning rate    | 3e-4                 | config.train.learning_rate                                |
| resolution       | 512                  | config                                                    |
| pairs            | best against worst of 24 there; any pairs here                                   |
| batch, steps     | 64 pairs, 1000       | ours: the script's follow from its online sampling         |
"""

from __future__ import annotations

from penchant.likelihoods import FlowMatching
from penchant.models.spec import Policy
from penchant.objectives import DPO
from penchant.recipe import Preferences, Recipe, Training


def sd3() -> Recipe:
    """Stable Diffusion 3.5 medium on Pick-a-Pic-shaped pairs."""
    return Recipe(
        name="sd3-flow-dpo",
        policy=Policy(
            path="stabilityai/stable-diffusion-3.5-medium", lora=32, lora_alpha=64.0, resolution=512, dtype="bfloat16"
        ),
        likelihood=FlowMatching(time="logit_normal", grid=1000),
        objective=DPO(beta=100.0, pairing="best_worst"),
        feedback=Preferences(path="pickapic_v2"),
        train=Training(
            steps=1000, batch_size=64, micro_batch=8, lr=3e-4, weight_decay=1e-4, precision="bf16", save_every=100
        ),
    )
