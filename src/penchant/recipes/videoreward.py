"""VideoReward (Liu et al., arXiv 2501.13918, sections 3.1 and 3.2): the embedded scale, and Qwen2-VL as in the paper.

| value            | paper (table 11)       | authors' train.sh            | `qwen2vl-videoreward`                |
|------------------|------------------------|------------------------------|--------------------------------------|
| backbone         | Qwen2-VL-2B-Instruct   | the same                     | the same                             |
| language model   | LoRA r 64, alpha 128   | the same, dropout 0.05       | r 64, alpha 128, dropout 0           |
| vision, merger   | full training          | full, a rate of their own    | full                                 |
| special tokens   | not said               | trained, other rows restored | rows of their own, no other can move |
| loss             | ties, theta 5          | the same                     | the same                             |
| reduction        | not said               | mean over all entries        | mean over labelled entries           |
| optimiser        | Adam, 2e-6             | 2e-6, all groups             | AdamW, 2e-6, no decay                |
| warm-up          | not said               | 5 % of the steps             | the same                             |
| epochs           | 2                      | 3                            | 2                                    |
| batch            | 32 pairs, 8 GPUs       | 1 x 4 x 8                    | 32 pairs, one at a time on a process |
| frames           | 2 fps, about 448 x 448 | the same, at least 4         | the same, at most 24                 |
| pairs            | 169,000 for training   | a table of one's own         | `videoalign_train.csv`               |

The embedded scale has the paper's loss, tokens and placement on a network of our own; its sizes and numbers are ours.
"""

from __future__ import annotations

from penchant.recipe import Training
from penchant.reward_models.cnn import VideoCNN
from penchant.reward_models.losses import BradleyTerryTies
from penchant.reward_models.network import Dimension
from penchant.reward_models.qwen2_vl import Qwen2VL
from penchant.reward_models.transformer import VideoTransformer
from penchant.reward_training.spec import Annotations, RewardRecipe

# Visual and motion quality must not depend on the prompt, text alignment must (section 3.2).
DIMENSIONS = (
    Dimension(name="VQ", sees_prompt=False),
    Dimension(name="MQ", sees_prompt=False),
    Dimension(name="TA", sees_prompt=True),
)

# 182,000 triplets less 13,000 for validation (section 3.1), in batches of 32.
_STEPS_AN_EPOCH = 169_000 // 32


def embedded() -> RewardRecipe:
    """A small video transformer on annotated emoji clips (simulated annotators); minutes on a CPU."""
    return RewardRecipe(
        name="videoreward",
        feedback=Annotations(path="zoo:clips/annotated"),
        dimensions=DIMENSIONS,
        loss=BradleyTerryTies(theta=5.0),
        backbone=VideoTransformer(),
        train=Training(
            steps=400, batch_size=32, lr=2e-3, schedule="cosine", warmup=20, weight_decay=0.05, save_every=100
        ),
    )


def judge() -> RewardRecipe:
    """A 3-D CNN beside a GRU with another seed: a judge that policies are not trained against."""
    return RewardRecipe(
        name="videoreward-judge",
        feedback=Annotations(path="zoo:clips/annotated"),
        dimensions=DIMENSIONS,
        loss=BradleyTerryTies(theta=5.0),
        backbone=VideoCNN(),
        train=Training(
            steps=400, batch_size=32, lr=2e-3, schedule="cosine", warmup=20, weight_decay=0.05, save_every=100
        ),
        seed=1,
    )


def qwen2vl() -> RewardRecipe:
    """VideoReward itself: Qwen2-VL-2B on a table of VideoAlign's layout."""
    return RewardRecipe(
        name="qwen2vl-videoreward",
        feedback=Annotations(path="videoalign_train.csv"),
        dimensions=DIMENSIONS,
        loss=BradleyTerryTies(theta=5.0),
        backbone=Qwen2VL(gradient_checkpointing=True),
        train=Training(
            steps=2 * _STEPS_AN_EPOCH,
            batch_size=32,
            micro_batch=1,
            lr=2e-6,
            warmup=2 * _STEPS_AN_EPOCH // 20,
            weight_decay=0.0,
            precision="bf16",
            save_every=200,
        ),
    )
