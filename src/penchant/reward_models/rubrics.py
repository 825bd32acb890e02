"""What a vision-language model is told about each dimension: VideoReward's rubric in our own words.

Source of the criteria: VideoAlign, arXiv 2501.13918, section 3.1 and the template `detailed_special` of its code.
"""

from __future__ import annotations

from collections.abc import Sequence

from penchant.reward_models.network import Dimension

SYSTEM = "You are a helpful assistant."

INTRODUCTION = (
    "Above are the frames of a generated video, in order of time. Rate it from 0 (worst) to 10 (best) under each of "
    "the following headings, each by itself."
)

RUBRICS = {
    "VQ": (
        "Visual quality, looking at what does not move. Is everything possible, without malformed bodies or absurd "
        "scenes? Is the picture sharp? Is it rich in texture, light and detail? Are colour, composition, depth and "
        "idea pleasing and in harmony? Harmful or indecent content has the lowest rating."
    ),
    "MQ": (
        "Motion quality, looking at what moves. Are frames continuous, without jumps, flicker or parts that vanish? "
        "Does motion obey physics? Is it fluid, also from shot to shot? Do the edges of moving things blend in, "
        "without signs of cutting and pasting? Does it stay clear while it moves? A video in which hardly anything "
        "moves rates low."
    ),
    "TA": (
        "Text alignment, comparing with the prompt below. Are the subjects the ones asked for, in number, look and "
        "behaviour? Is the motion the one described, in kind, extent and direction? Are scene and background right? Is "
        "the style, if one is named? Does the camera move as told?"
    ),
}


def heading(dimension: Dimension) -> str:
    """What stands before a dimension's token; a dimension without a rubric of ours goes by its name."""
    return f"{RUBRICS.get(dimension.name, f'{dimension.name}.')}\nRating: "


def parts(dimensions: Sequence[Dimension], prompt: str) -> tuple[list[str], list[str]]:
    """Texts before each special token, those of context-agnostic dimensions first; the prompt opens the second list.

    Without context-aware dimensions the second list holds the prompt alone.
    """
    early = [d for d in dimensions if not d.sees_prompt]
    late = [d for d in dimensions if d.sees_prompt]
    before = [heading(d) for d in early]
    after = [heading(d) for d in late] or [""]
    after[0] = f"Prompt: {prompt}\n\n{after[0]}"
    return before, after
