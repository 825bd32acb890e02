"""One unit for beta, and the way to it from every paper's and every code base's.

Our unit: a log-prob is -1/2 times the *mean* squared error (denoising) or the summed token log-prob (text), and

    logit = beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ]

A source that leaves out the 1/2, or sums over the d elements of a latent, has logit = beta_source * factor * [...]:

| source             | logit of the source                   | factor | its usual beta  |
|--------------------|---------------------------------------|--------|-----------------|
| penchant           | ours                                  | 1      |                 |
| text               | DPO on sequence log-probs             | 1      | 0.1 (TRL)       |
| diffusion-dpo-code | 1/2, mean                             | 1      | 5000 (train.py) |
| diffusion-dpo-s9   | no 1/2, sum (supplement S9)           | 2 d    |                 |
| sum                | no 1/2, sum                           | 2 d    |                 |
| diffusers          | no 1/2, mean (SD1.5 script)           | 2      | 2500            |
| diffusers-sdxl     | 1/2, mean (SDXL script)               | 1      | 5000            |
| simpletuner        | 1/2, sum                              | d      | 1               |
| flow-grpo          | 1/2, mean, velocity                   | 1      | 100             |
| videoalign         | 1/2, mean, velocity (eq. of Flow-DPO) | 1      | 500             |
| diffusion-kto      | no 1/2, mean                          | 2      | 1000            |
| dspo               | 1/2, mean; beta also scales the pull  | 1      | 0.001           |

VideoAlign's pseudo-code sums; its beta of 500 is plausible for a mean only, so it is read as one. MaPO's beta is no
temperature but the weight of its margin term, and has no place in this table.

    >>> convert(2500, source="diffusers")
    5000.0
    >>> round(convert(5000, source="penchant", to="sum", dims=4 * 64 * 64), 4)
    0.1526
"""

from __future__ import annotations

from typing import Literal, get_args

Source = Literal[
    "penchant",
    "text",
    "diffusion-dpo-code",
    "diffusion-dpo-s9",
    "sum",
    "diffusers",
    "diffusers-sdxl",
    "simpletuner",
    "flow-grpo",
    "videoalign",
    "diffusion-kto",
    "dspo",
]

_WITHOUT_HALF = ("sum", "diffusion-dpo-s9", "diffusers", "diffusion-kto")
_SUMS = ("sum", "diffusion-dpo-s9", "simpletuner")


def factor(source: Source, dims: int | None = None) -> float:
    """Our beta for each unit of the source's beta; `dims` = elements of one latent, for sources that sum."""
    if source not in get_args(Source):
        raise ValueError(f"no beta unit is called '{source}'; known: {', '.join(get_args(Source))}.")
    if source in _SUMS and (dims is None or dims < 1):
        raise ValueError(f"'{source}' sums over a latent's elements: give their number, dims=channels*height*width.")
    return (2.0 if source in _WITHOUT_HALF else 1.0) * (float(dims or 1) if source in _SUMS else 1.0)


def convert(beta: float, *, source: Source, to: Source = "penchant", dims: int | None = None) -> float:
    """`beta` of `source` in the unit of `to` (ours by default)."""
    return beta * factor(source, dims) / factor(to, dims)
