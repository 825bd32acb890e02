"""The judges of MusicRL (Cideron et al., arXiv 2402.04229, section 3.3) at the embedded scale: three that policies
train against, and one that is held out.

| value      | paper                                         | here                                                   |
|------------|-----------------------------------------------|--------------------------------------------------------|
| adherence  | MuLan: cosine of text and audio               | `tune-adherence`: cosine of two towers                 |
| its parts  | three segments of 10 s, averaged              | first, middle and last third of the bars, averaged     |
| its loss   | contrastive (MuLan's)                         | logistic, as many wrong captions as right (SigLIP's)   |
| quality    | regression of opinion scores 1 to 5, 3 raters | `tune-quality`: of 5 - level of corruption             |
| its parts  | first and last 20 of 30 s, averaged           | first and last two thirds of the bars, averaged        |
| preference | scalar of caption and audio tokens            | `tune-preference`: of caption and tokens               |
| its loss   | Bradley-Terry                                 | the same                                               |
| its start  | the MusicLM checkpoint, trained in full       | the tune model's features, frozen; `full` as the paper |
| its votes  | 285,000 pairs of 20 s, 15,000 to evaluate     | 3,000 pairs of simulated listeners, 5 % to test        |
| its steps  | 10,000 of 32 pairs                            | see the recipes                                        |
| held out   | people                                        | `tune-judge`: other data, another layer, another loss  |

Sizes, steps and rates are ours; the paper tells none for adherence and quality.
"""

from __future__ import annotations

from penchant.recipe import Training
from penchant.reward_models.language_trunk import LanguageTrunk
from penchant.reward_models.losses import BradleyTerry, Logistic, Regression
from penchant.reward_models.network import Dimension
from penchant.reward_training.spec import Annotations, RewardRecipe

ADHERENCE = Dimension(name="adherence", sees_prompt=True)
QUALITY = Dimension(name="quality", sees_prompt=False)
PREFERENCE = Dimension(name="preference", sees_prompt=True)

CITE = ("cideron2024musicrl",)


def adherence() -> RewardRecipe:
    """Text adherence: a cosine, in [-1, 1]."""
    return RewardRecipe(
        name="tune-adherence",
        feedback=Annotations(path="zoo:tunes/captioned", source="simulated:books/a"),
        dimensions=(ADHERENCE,),
        loss=Logistic(),
        backbone=LanguageTrunk(windows="thirds", prompt="compared"),
        units="natural",
        train=_training(steps=800, batch_size=64),
        cite=CITE,
    )


def quality() -> RewardRecipe:
    """Quality: an opinion score, about 1 to 5."""
    return RewardRecipe(
        name="tune-quality",
        feedback=Annotations(path="zoo:tunes/rated", source="simulated:corruptions/a"),
        dimensions=(QUALITY,),
        loss=Regression(),
        backbone=LanguageTrunk(windows="two_thirds"),
        units="natural",
        train=_training(steps=800, batch_size=64),
        cite=CITE,
    )


def preference() -> RewardRecipe:
    """User preference of simulated listeners, who are no people."""
    return RewardRecipe(
        name="tune-preference",
        feedback=Annotations(path="zoo:tunes/pairs", source="simulated:listeners/a"),
        dimensions=(PREFERENCE,),
        loss=BradleyTerry(),
        backbone=LanguageTrunk(windows="two_thirds", prompt="read"),
        train=_training(steps=400, batch_size=32),
        cite=CITE,
    )


def full_preference() -> RewardRecipe:
    """The same with the whole model trained from its checkpoint, as in the paper."""
    return RewardRecipe(
        name="tune-preference-full",
        feedback=Annotations(path="zoo:tunes/pairs", source="simulated:listeners/a"),
        dimensions=(PREFERENCE,),
        loss=BradleyTerry(),
        backbone=LanguageTrunk(windows="two_thirds", prompt="read", frozen=False),
        train=Training(steps=100, batch_size=32, lr=2e-4, schedule="cosine", warmup=10, weight_decay=0.05, clip=1.0),
        cite=CITE,
    )


def judge() -> RewardRecipe:
    """A judge that policies are not trained against: the other half of the data, layer 2, Bradley-Terry throughout.

    Its preference does not read the caption.
    """
    return RewardRecipe(
        name="tune-judge",
        feedback=Annotations(path="zoo:tunes/judged"),
        dimensions=(ADHERENCE, QUALITY, Dimension(name="preference", sees_prompt=False)),
        loss=BradleyTerry(),
        backbone=LanguageTrunk(layer=2, windows="two_thirds", prompt="compared"),
        train=_training(steps=1500, batch_size=64),
        seed=1,
        cite=CITE,
    )


def _training(*, steps: int, batch_size: int) -> Training:
    return Training(
        steps=steps, batch_size=batch_size, lr=2e-3, schedule="cosine", warmup=20, weight_decay=0.05, log_every=50
    )
