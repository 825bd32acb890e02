"""Flow-DPO (Liu et al., arXiv 2501.13918): the embedded scale, and Stable Diffusion 3.5 medium.

`flow-dpo` aligns the shipped video model on its own clips, labelled by the shipped reward: beta is constant and t drawn
uniformly as in the paper, the numbers are ours. Beta was chosen by `reproduce/flow_dpo.py`: with less, motion pays for
looks there. The weight of the bound that the paper derives and warns of is `--likelihood.weight one_minus_t_squared`.
`sd3-flow-dpo` is flow_grpo's train_sd3_dpo.py; the paper's own values are those of `wan-flow-dpo`.

| value            | `sd3-flow-dpo`       | source                                                    |
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
from penchant.recipe import Evaluation, Preferences, Recipe, Training


def embedded() -> Recipe:
    """The shipped video model and its own clips, labelled by the shipped reward, judged by another network."""
    return Recipe(
        name="flow-dpo",
        policy=Policy(path="zoo:clips"),
        likelihood=FlowMatching(time="uniform"),
        objective=DPO(beta=4000.0),
        feedback=Preferences(path="zoo:clips/samples"),
        train=Training(steps=200, batch_size=16, lr=2e-5, warmup=10, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:clips/prompts",
            count=64,
            seeds=2,
            steps=16,
            guidance=1.0,
            # A clip that stands still is smooth and looks good: the known way to please a reward.
            judges=("zoo:clips/judge", "dynamic-degree", "smoothness"),
            trained_against=("zoo:clips/reward#overall",),
        ),
        threads=1,
    )


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
