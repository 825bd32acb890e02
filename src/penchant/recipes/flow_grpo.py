"""Online RL of pictures and clips: DDPO (arXiv 2305.13301) and Flow-GRPO (arXiv 2505.05470).

The embedded recipes draw 16 samples of 8 captions a round, which a scorer rewards, and are judged by another one.
`ddpo` takes DDIM's noisy steps and trains on a quarter of them, drawn anew each round. `flow-grpo` is the fast form:
Flow-GRPO's step (noise 0.7) in a window of 3, the rest of the path along the ODE, no guidance, no KL; the shipped model
predicts v on a variance-preserving path, which `AsFlow` walks as the flow that it is. Embedded numbers are ours.

| value           | `sd3-flow-grpo`            | `wan-flow-grpo`          | source                                    |
|-----------------|----------------------------|--------------------------|-------------------------------------------|
| steps           | 10 (40 in use)             | 20 (50 in use)           | paper, section 5; flow_grpo's configs     |
| group, groups   | 24, 48                     | 4, 48 (ours)             | the same                                  |
| size            | 512                        | 240 x 416, 33 frames     | the same                                  |
| guidance        | 4.5, inside the policy     | 4.5 (config)             | the same                                  |
| noise a         | 0.7                        | 0.7                      | the same                                  |
| adapter         | LoRA r 32, alpha 64        | LoRA r 32, alpha 64      | the same                                  |
| learning rate   | 3e-4, decay 1e-4           | 1e-4, decay 1e-4         | the same                                  |
| clip            | 1e-4                       | 1e-3                     | configs                                   |
| KL              | 0.01 (PickScore)           | 0.004                    | the same; 0.04 there for GenEval and OCR  |
| deviation       | of the batch               | of the group             | global_std                                |
| updates a round | 2                          | 2                        | configs                                   |
| EMA             | 0.9, every 8 there         | the same                 | every step here                           |
| reward          | PickScore                  | one's own VideoReward    | the paper's; ours                         |
| rounds          | 1000                       | 500                      | ours: the paper gives GPU hours           |
"""

from __future__ import annotations

from dataclasses import replace

from penchant.likelihoods import DDIM, AsFlow, DenoisingPath, FlowSDE
from penchant.models.spec import Policy
from penchant.objectives import GRPO, ClippedAdvantage, GroupRelative
from penchant.recipe import Evaluation, Recipe, RewardTerm, Rollouts, Training


def ddpo() -> Recipe:
    """The shipped picture model learns from a scorer's rewards along its own denoising paths, judged by another one."""
    return Recipe(
        name="ddpo",
        policy=Policy(path="zoo:emoji"),
        likelihood=DenoisingPath(transition=DDIM(), steps=16, fraction=0.25),
        objective=GRPO(advantage=ClippedAdvantage(), clip_low=1e-4, clip_high=1e-4),
        feedback=Rollouts(
            prompts="zoo:emoji/captions",
            rewards=(RewardTerm(judge="zoo:emoji/labeller"),),
            candidates=16,
            prompts_a_round=8,
        ),
        train=Training(steps=30, batch_size=8, micro_batch=1, lr=1e-4, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:emoji/prompts",
            count=90,
            seeds=3,
            steps=16,
            guidance=1.0,
            judges=("zoo:emoji/judge",),
            trained_against=("zoo:emoji/labeller",),
        ),
        threads=1,
    )


def embedded() -> Recipe:
    """The same with Flow-GRPO's noise in a window of three steps, the rest of the path along the ODE."""
    made = ddpo()
    return replace(
        made,
        name="flow-grpo",
        likelihood=DenoisingPath(transition=AsFlow(step=FlowSDE(noise=0.7)), steps=16, window=3),
        objective=GRPO(advantage=ClippedAdvantage(), clip_low=1e-5, clip_high=1e-5),
    )


def sd3() -> Recipe:
    """Stable Diffusion 3.5 medium on PickScore's rewards."""
    return Recipe(
        name="sd3-flow-grpo",
        policy=Policy(
            path="stabilityai/stable-diffusion-3.5-medium", lora=32, lora_alpha=64.0, resolution=512, dtype="bfloat16"
        ),
        likelihood=DenoisingPath(transition=FlowSDE(noise=0.7), steps=10, guidance=4.5),
        objective=_objective("batch", clip=1e-4, beta=0.01),
        feedback=Rollouts(
            prompts="pickscore-prompts.txt",
            rewards=(RewardTerm(judge="pickscore"),),
            candidates=24,
            prompts_a_round=48,
            batch_size=24,
        ),
        train=Training(
            steps=2000,
            batch_size=24,
            micro_batch=1,
            lr=3e-4,
            weight_decay=1e-4,
            ema=0.9,
            precision="bf16",
            save_every=20,
        ),
    )


def wan() -> Recipe:
    """Wan 2.1 1.3 B on the rewards of one's own VideoReward (`penchant train-reward qwen2vl-videoreward`)."""
    return Recipe(
        name="wan-flow-grpo",
        policy=Policy(
            path="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            lora=32,
            lora_alpha=64.0,
            dtype="bfloat16",
            gradient_checkpointing=True,
            resolution=240,
            width=416,
            frames=33,
        ),
        likelihood=DenoisingPath(transition=FlowSDE(noise=0.7), steps=20, guidance=4.5),
        objective=_objective("group", clip=1e-3, beta=0.004),
        feedback=Rollouts(
            prompts="video-prompts.txt",
            rewards=(RewardTerm(judge="runs/videoreward/model#overall"),),
            candidates=4,
            prompts_a_round=48,
            batch_size=4,
        ),
        train=Training(
            steps=1000,
            batch_size=24,
            micro_batch=1,
            lr=1e-4,
            weight_decay=1e-4,
            ema=0.9,
            precision="bf16",
            save_every=20,
        ),
    )


def _objective(scale: str, *, clip: float, beta: float) -> GRPO:
    relative = GroupRelative(scale="batch" if scale == "batch" else "group", correction=0)
    return GRPO(advantage=ClippedAdvantage(advantage=relative), clip_low=clip, clip_high=clip, beta=beta, kl="exact")
