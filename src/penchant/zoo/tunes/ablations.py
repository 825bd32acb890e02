"""What the votes are about: MusicRL's ablations of its preference model (arXiv 2402.04229, section 6 and figure 6).

| ablation       | paper                                     | here                                             |
|----------------|-------------------------------------------|--------------------------------------------------|
| whole          | 60 % of 15,000 votes                      | the recipe as it is                              |
| without text   | no loss                                   | the trunk does not read the caption              |
| a third        | about 56 % with 3 to 5 of 20 s            | only the first third of the bars                 |
| by adherence   | 51.6 %                                    | the sample with the higher adherence is picked   |
| by quality     | 53.3 %                                    | the sample with the higher quality is picked     |

Beside them stand how often two listeners agree (the paper: 60 %, a team beside the users) and the ceiling, which is
known here because the listeners are simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from penchant.feedback.groups import Group
from penchant.judges.base import Judge
from penchant.zoo.tunes.judge_measures import Measured, accuracy
from penchant.zoo.tunes.listeners import DIMENSION, Listeners

if TYPE_CHECKING:
    from penchant.reward_training import RewardRecipe

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ablations:
    """Accuracies on votes that no model learnt from.

    Attributes:
        accuracy: by name of the ablation, in the order of the table above.
        agreement: the probability that two listeners vote alike on these pairs.
        ceiling: what no model exceeds on average.
    """

    accuracy: dict[str, Measured]
    agreement: float
    ceiling: float

    def table(self) -> str:
        """Markdown, in %."""
        lines = ["| model | accuracy | 95 % interval |", "|---|---|---|"]
        lines += [
            f"| {name} | {100 * m.value:.1f} | {100 * m.low:.1f} to {100 * m.high:.1f} |"
            for name, m in self.accuracy.items()
        ]
        lines += [
            f"| two listeners agree | {100 * self.agreement:.1f} | |",
            f"| ceiling | {100 * self.ceiling:.1f} | |",
        ]
        return "\n".join(lines)


def held_out(groups: Sequence[Group]) -> list[Group]:
    """Of `zoo:tunes/pairs` what judge a does not learn from: its test pairs and all of judge b's."""
    return [g for g in groups if g.judgements[0].source.endswith("/b") or g.split == "test"]


def variants(recipe: RewardRecipe) -> dict[str, RewardRecipe]:
    """The recipe and the two that train on less: named "whole", "without text" and "a third".

    Args:
        recipe: of the preference model, on a `LanguageTrunk`.
    """
    blind = tuple(replace(dimension, sees_prompt=False) for dimension in recipe.dimensions)
    cropped = replace(recipe.backbone, windows="first_third")  # type: ignore[type-var]
    return {
        "whole": recipe,
        "without text": replace(recipe, dimensions=blind),
        "a third": replace(recipe, backbone=cropped),
    }


def ablations(
    recipe: RewardRecipe, groups: Sequence[Group], *, adherence: Judge, quality: Judge, out: Path, say: Say = print
) -> Ablations:
    """Trains the variants and asks them, and the two other judges, about held-out votes.

    Args:
        recipe: of the preference model; its `out` is replaced.
        groups: pairs with votes that it does not learn from, see `held_out`.
        adherence: judge of text adherence.
        quality: judge of quality.
        out: folder of the runs; a finished one is taken as it is.
        say: where progress goes.

    Raises:
        PenchantError: as `train_reward`.
    """
    from penchant.judges import load
    from penchant.reward_training.run import train_reward

    judges: dict[str, tuple[Judge, str]] = {}
    for name, variant in variants(recipe).items():
        folder = out / name.replace(" ", "-")
        run = train_reward(replace(variant, out=str(folder)), resume=(folder / "outcome.json").exists(), say=say)
        judges[name] = (load(str(run.model_path)), recipe.dimensions[0].name)
    judges |= {"by adherence": (adherence, "adherence"), "by quality": (quality, "quality")}
    listeners = Listeners()
    return Ablations(
        accuracy={name: accuracy(judge, groups, dimension=d) for name, (judge, d) in judges.items()},
        agreement=listeners.agreement(groups),
        ceiling=listeners.ceiling(groups),
    )


__all__ = ["DIMENSION", "Ablations", "ablations", "held_out", "variants"]
