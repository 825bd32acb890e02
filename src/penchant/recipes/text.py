"""Preference training of language models: the embedded scale on SmolLM2, and DPO as Zephyr-7B was made.

| value         | `llm-dpo`                                | source                                                |
|---------------|------------------------------------------|-------------------------------------------------------|
| model, data   | Mistral-7B after SFT, UltraFeedback      | Zephyr (Tunstall et al., arXiv 2310.16944), section 4 |
| beta          | 0.1                                      | section 4                                             |
| learning rate | 5e-7, linear to 0, 10 % warm-up          | section 4                                             |
| batch         | 32 pairs                                 | section 4                                             |
| epochs        | 1 (1,900 steps); the paper ran up to 3   | ours is the first                                     |
| lengths       | prompt 512, completion 512 tokens        | ours: not said                                        |
| optimiser     | AdamW, no weight decay                   | ours: not said                                        |

The embedded recipes share model, groups and judge, and each learns from the same four continuations a prompt: `dpo` and
`simpo` from the best against the worst, `rankdpo-text` from the whole order. Their learning rate is what the sweep of
`reproduce/irepo.py` chose for DPO.
"""

from __future__ import annotations

from dataclasses import replace

from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.objectives import DPO, RankDPO, SimPO
from penchant.recipe import Evaluation, Preferences, Recipe, Training


def dpo() -> Recipe:
    """SmolLM2 learns to continue stories gladly: simulated annotators ranked its own continuations."""
    return Recipe(
        name="dpo",
        policy=Policy(path="zoo:smollm2", lora=16, chat="plain"),
        likelihood=Autoregressive(),
        objective=DPO(beta=0.1, pairing="best_worst"),
        feedback=Preferences(path="zoo:openers/ranked"),
        train=Training(steps=30, batch_size=4, lr=1e-3, warmup=2, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:openers/held-out",
            count=40,
            decoding=Decoding(max_tokens=24, top_p=0.95),
            batch_size=64,
            judges=("tone",),
            trained_against=("vader",),
        ),
        threads=1,
    )


def simpo() -> Recipe:
    """The same without a reference: length-normalised log-probs and a margin."""
    return replace(dpo(), name="simpo", objective=SimPO(beta=2.5, gamma=1.25, pairing="best_worst"))


def rankdpo() -> Recipe:
    """The same from the whole order of four, as RankDPO learns from pictures."""
    return replace(dpo(), name="rankdpo-text", objective=RankDPO(beta=0.1))


def zephyr() -> Recipe:
    """Mistral-7B on UltraFeedback as Zephyr-7B-beta was trained."""
    return Recipe(
        name="llm-dpo",
        policy=Policy(
            path="alignment-handbook/zephyr-7b-sft-full",
            dtype="bfloat16",
            gradient_checkpointing=True,
            max_prompt=512,
            max_completion=512,
        ),
        likelihood=Autoregressive(),
        objective=DPO(beta=0.1),
        feedback=Preferences(path="ultrafeedback_binarized", split="train_prefs"),
        train=Training(
            steps=1900,
            batch_size=32,
            micro_batch=1,
            lr=5e-7,
            schedule="linear",
            warmup=190,
            weight_decay=0.0,
            precision="bf16",
            save_every=100,
        ),
    )
