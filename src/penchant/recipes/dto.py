"""DTO (An et al., arXiv 2505.21765, NeurIPS 2025): the embedded scale, and DeepSeek-R1-Distill-Qwen-1.5B.

A construction makes the feedback (`penchant.thoughts`), SimPO learns from it, without a reference model.

| value                  | paper                                   | here                                            |
|------------------------|-----------------------------------------|-------------------------------------------------|
| objective              | SimPO                                   | the same                                        |
| policies               | R1-Distill-Qwen-1.5B, DeepScaleR        | the first                                       |
| exit pattern           | printed: "... Wait, I suddenly got ..." | the same                                        |
| exit samples, T        | not readable                            | 8 of at most 32 tokens, T = 0.5: ours           |
| endings                | K, not readable                         | 4: ours                                         |
| traces a problem       | not readable                            | 8, temperature 0.6, top-p 0.95, 16 k: ours      |
| finalise pattern       | described                               | our words                                       |
| pruning                | an auxiliary model rates                | by exit probability here; `RatedPruning` for it |
| problems               | not readable                            | MATH's 7,500 training problems: ours            |
| beta, gamma            | not readable                            | 2.5, 1.25, SimPO's usual: ours                  |
| learning rate          | not readable                            | 5e-7: ours                                      |
| batch, epochs          | not readable                            | 64 pairs, one epoch: ours                       |
"""

from __future__ import annotations

from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.objectives import SimPO
from penchant.recipe import Evaluation, Preferences, Recipe, Training
from penchant.thoughts import R1, Construction, Method

# The objective is SimPO: the paper is in the pairs.
_CITE = ("an2025dto",)


def embedded() -> Recipe:
    """The shipped thinker and its own traces made better, verified by a rule; a minute on one core."""
    return Recipe(
        name="dto",
        policy=Policy(path="zoo:thinker"),
        likelihood=Autoregressive(),
        objective=SimPO(beta=2.5, gamma=1.25),
        feedback=Preferences(path="zoo:thinker/thoughts"),
        # One epoch.
        train=Training(steps=120, batch_size=8, lr=1e-4, warmup=5, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:thinker/held-out",
            # All that are held out: with 60 the interval is too wide to see the gain.
            count=160,
            seeds=4,
            decoding=Decoding(max_tokens=320),
            batch_size=256,
            # The rule that the pairs were made by: what is held out are the problems.
            judges=("exact-match:zoo:thinker/answers",),
        ),
        threads=1,
        cite=_CITE,
    )


def r1_thoughts() -> Construction:
    """Traces of DeepSeek-R1-Distill-Qwen-1.5B made better.

    Its chat template drops thoughts from answers, so problems are plain texts that carry the template's marks already
    (`docs/methods/dto.md`).
    """
    return Construction(
        name="r1-distill-thoughts",
        policy=_r1(),
        problems="math-problems.jsonl",
        verifier="math-verify",
        format=R1,
        method=Method(),
    )


def r1_distill() -> Recipe:
    """DeepSeek-R1-Distill-Qwen-1.5B on what `r1-distill-thoughts` made: an epoch if half of all traces pair."""
    return Recipe(
        name="r1-distill-dto",
        policy=_r1(),
        likelihood=Autoregressive(),
        objective=SimPO(beta=2.5, gamma=1.25),
        feedback=Preferences(path="runs/r1-distill-thoughts/data"),
        train=Training(
            steps=470,
            batch_size=64,
            micro_batch=1,
            lr=5e-7,
            schedule="cosine",
            warmup=47,
            weight_decay=0.0,
            precision="bf16",
            save_every=50,
        ),
        cite=_CITE,
    )


def _r1() -> Policy:
    return Policy(
        path="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        gradient_checkpointing=True,
        chat="plain",
        max_completion=16_384,
    )
