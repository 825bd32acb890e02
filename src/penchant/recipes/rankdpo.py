"""RankDPO and Syn-Pic (Karthik et al., arXiv 2410.18013): the embedded scale, SDXL and SD3.

| value         | paper                                          | here                                                |
|---------------|------------------------------------------------|-----------------------------------------------------|
| generators    | SDXL, SD3-Medium, PixArt-Sigma, Stable Cascade | the same                                            |
| rewards       | HPSv2.1, MPS, PickScore, VQAScore, ImageReward | the same; VQAScore on InstructBLIP, see `judges`    |
| prompts       | 58,000 of Pick-a-Pic v2                        | the first 58,000                                    |
| aggregation   | strict votes (algorithm 1)                     | the same                                            |
| sampler       | not given                                      | the pipelines' own steps and guidance: ours         |
| batch, steps  | 1024 and 400 (lists or images: not said)       | 1024 lists: ours                                    |
| beta          | not given                                      | 5000, Diffusion-DPO's: ours                         |
| learning rate | not given                                      | 1.02e-5, Diffusion-DPO's 1e-8 times the batch: ours |
| optimiser     | not given                                      | AdamW, weight decay 1e-2: ours                      |
| noise         | written eps^i, one for each image              | shared by the list, as in Diffusion-DPO: ours       |
| SD3's loss    | not given                                      | squared velocity error: ours                        |
| logarithm     | base not given                                 | natural: ours                                       |

`--likelihood.no-share-noise` is the noise of the paper's letter.
"""

from __future__ import annotations

from dataclasses import replace

from penchant.likelihoods import Diffusion, FlowMatching
from penchant.models.spec import Policy
from penchant.objectives import RankDPO
from penchant.recipe import Preferences, Recipe, Training
from penchant.recipes import diffusion_dpo
from penchant.synthesis import Pictures, Pipeline, Reward, Synthesis, Work

_PAPER = Training(
    steps=400, batch_size=1024, micro_batch=1, by_candidate=True, lr=1.02e-5, precision="bf16", save_every=50
)


def _emoji(name: str, guidance: float, *, steps: int = 16, adapter: str | None = None) -> Pictures:
    policy = Policy(path="zoo:emoji", adapter=adapter)
    return Pictures(name=name, policy=policy, steps=steps, guidance=guidance, batch_size=32, format="webp", seconds=0.2)


def synpic() -> Synthesis:
    """Emoji captions drawn by five generators, ranked by the votes of three rewards; minutes on two cores."""
    return Synthesis(
        name="synpic",
        prompts="zoo:emoji/captions",
        generators=(
            _emoji("bare", 1.0),
            _emoji("guided", 3.0),
            _emoji("hasty", 2.0, steps=5),
            _emoji("overguided", 9.0),
            _emoji("fluent", 2.0, adapter="zoo:emoji/fluent"),
        ),
        rewards=(
            Reward(name="labeller", judge="zoo:emoji/labeller", seconds=0.003),
            Reward(name="voter", judge="zoo:emoji/voter", seconds=0.003),
            Reward(name="sharpness", judge="sharpness", seconds=0.0005),
        ),
        licence="Apache-2.0",
        work=Work(workers=2, threads=1),
    )


def rankdpo() -> Recipe:
    """The shipped emoji model and the ranked groups of `synpic`, judged by scorer B, which did not vote."""
    pairs = diffusion_dpo.embedded()
    return replace(
        pairs,
        name="rankdpo",
        objective=RankDPO(beta=2000.0),
        feedback=Preferences(path="zoo:emoji/ranked"),
        # A list of five is as many pictures as two and a half pairs.
        train=replace(pairs.train, batch_size=8),
    )


# 10 A100-days for 232,000 images and their 1,160,000 scores, split as the paper splits its dollars (185.60 and 20):
# 3.36 s an image and 0.072 s a score on an A100, derived by us.
_IMAGE, _SCORE = 3.36, 0.072


def sdxl_synpic() -> Synthesis:
    """Syn-Pic at the paper's scale: four generators, five rewards, 58,000 prompts of Pick-a-Pic v2."""
    paths = {
        "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
        "sd3-medium": "stabilityai/stable-diffusion-3-medium-diffusers",
        "pixart-sigma": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "stable-cascade": "stabilityai/stable-cascade",
    }
    return Synthesis(
        name="sdxl-synpic",
        prompts="pickapic_v2",
        limit=58_000,
        generators=tuple(
            Pipeline(name=name, path=path, dtype="bfloat16", seconds=_IMAGE) for name, path in paths.items()
        ),
        rewards=tuple(
            Reward(name=name, judge=name, seconds=_SCORE)
            for name in ("hpsv2.1", "mps", "pickscore", "vqascore", "imagereward")
        ),
        work=Work(executor="ray", workers=8, gpus=1),
    )


def sdxl() -> Recipe:
    """SDXL base on Syn-Pic."""
    return Recipe(
        name="sdxl-rankdpo",
        policy=Policy(path="stabilityai/stable-diffusion-xl-base-1.0", resolution=1024, gradient_checkpointing=True),
        likelihood=Diffusion(),
        objective=RankDPO(),
        feedback=Preferences(path="runs/sdxl-synpic/data"),
        train=_PAPER,
    )


def sd3() -> Recipe:
    """Stable Diffusion 3 Medium on Syn-Pic, on the flow bound."""
    return replace(
        sdxl(),
        name="sd3-rankdpo",
        policy=Policy(
            path="stabilityai/stable-diffusion-3-medium-diffusers", resolution=1024, gradient_checkpointing=True
        ),
        likelihood=FlowMatching(),
    )
