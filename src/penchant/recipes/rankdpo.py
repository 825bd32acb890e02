"""RankDPO and Syn-Pic (Karthik et al., arXiv 2410.18013): the embedded scale, SDXL and SD3.

| value          | paper                                                       | here                                        |
|----------------|-------------------------------------------------------------|---------------------------------------------|
| generators     | SDXL, SD3-Medium, PixArt-Sigma, Stable Cascade              | those that `penchant.models` knows, see below |
| rewards        | HPSv2.1, MPS, PickScore, VQAScore, ImageReward              | the same                                    |
| prompts        | 58,000 of Pick-a-Pic v2                                     | the same number                             |
| aggregation    | strict votes (algorithm 1)                                  | the same                                    |
| sampler        | not given                                                   | the pipelines' own steps and guidance: ours |
| batch, steps   | 1024, 400 (lists or images: not said)                       | 1024 lists: ours                            |
| beta           | not given                                                   | 5000, Diffusion-DPO's: ours                 |
| learning rate  | not given                                                   | 1.02e-5 = 1e-8 x batch, as Diffusion-DPO's launchers scale: ours |
| optimiser      | not given                                                   | AdamW, wd 1e-2: ours                        |
| noise          | written eps^i, one for each image                           | shared by the list, as in Diffusion-DPO: ours (`--likelihood.no-share-noise` is the paper's letter) |
| SD3's loss     | not given                                                   | squared velocity error: ours                |
| logarithm      | base not given                                              | natural: ours                               |
"""

from __future__ import annotations

from dataclasses import replace

from penchant.likelihoods import Diffusion, FlowMatching
from penchant.models.spec import Policy
from penchant.objectives import RankDPO
from penchant.recipe import Evaluation, Preferences, Recipe, Training
from penchant.synthesis import Pictures, Pipeline, Reward, Synthesis, Work

_EMOJI = Policy(path="zoo:emoji")
_PAPER = Training(
    steps=400, batch_size=1024, micro_batch=1, by_candidate=True, lr=1.02e-5, precision="bf16", save_every=50
)


def synpic() -> Synthesis:
    """Emoji captions drawn by five generators, ranked by the votes of three rewards; minutes on two cores."""
    settings = {"batch_size": 32, "format": "webp"}
    return Synthesis(
        name="synpic",
        prompts="zoo:emoji/captions",
        generators=(
            Pictures(name="bare", policy=_EMOJI, steps=16, guidance=1.0, **settings),
            Pictures(name="guided", policy=_EMOJI, steps=16, guidance=3.0, **settings),
            Pictures(name="hasty", policy=_EMOJI, steps=5, guidance=2.0, **settings),
            Pictures(name="overguided", policy=_EMOJI, steps=16, guidance=9.0, **settings),
            Pictures(
                name="fluent",
                policy=Policy(path="zoo:emoji", adapter="zoo:emoji/fluent"),
                steps=16,
                guidance=2.0,
                **settings,
            ),
        ),
        rewards=(
            Reward(name="labeller", judge="zoo:emoji/labeller"),
            Reward(name="voter", judge="zoo:emoji/voter"),
            Reward(name="sharpness", judge="sharpness"),
        ),
        licence="Apache-2.0",
        work=Work(workers=2, threads=1),
    )


def rankdpo() -> Recipe:
    """The shipped emoji model and the ranked groups of `synpic`, judged by scorer B, which did not vote."""
    return Recipe(
        name="rankdpo",
        policy=_EMOJI,
        likelihood=Diffusion(),
        objective=RankDPO(beta=2000.0),
        feedback=Preferences(path="zoo:emoji/ranked"),
        train=Training(steps=200, batch_size=8, lr=2e-5, warmup=10, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:emoji/prompts",
            count=90,
            seeds=3,
            steps=16,
            guidance=1.0,
            judges=("zoo:emoji/judge",),
            trained_against=("zoo:emoji/labeller",),
        ),
        # The model is small: a second thread adds a tenth of speed for a quarter more CPU time.
        threads=1,
    )


# 10 A100-days for 232,000 images and their 1,160,000 scores, split as the paper splits its dollars (185.60 and 20):
# 3.36 s an image and 0.072 s a score on an A100, derived by us.
_IMAGE, _SCORE = 3.36, 0.072


def sdxl_synpic() -> Synthesis:
    """Syn-Pic at the paper's scale: four generators, five rewards, 58,000 prompts of Pick-a-Pic v2."""
    bf16 = {"dtype": "bfloat16", "seconds": _IMAGE}
    return Synthesis(
        name="sdxl-synpic",
        prompts="pickapic_v2",
        limit=58_000,
        generators=(
            Pipeline(name="sdxl", path="stabilityai/stable-diffusion-xl-base-1.0", **bf16),
            Pipeline(name="sd3-medium", path="stabilityai/stable-diffusion-3-medium-diffusers", **bf16),
            Pipeline(name="pixart-sigma", path="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", **bf16),
            Pipeline(name="stable-cascade", path="stabilityai/stable-cascade", **bf16),
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
