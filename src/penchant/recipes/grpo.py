"""GRPO (Shao et al., DeepSeekMath, arXiv 2402.03300): the embedded scale, and its own model.

The policy answers, a verifier says right or wrong, and a group's answers are compared with each other.

| value         | `llm-grpo` | source                                                                        |
|---------------|------------|-------------------------------------------------------------------------------|
| model         | DeepSeekMath-Instruct 7B | section 4.2                                                     |
| problems      | GSM8K and MATH, 144,000 | section 4.2; give yours as `--feedback.prompts`                  |
| samples       | 64 a problem | section 4.2                                                                 |
| lengths       | 1024 tokens | section 4.2                                                                  |
| batch         | 1024 samples, one update a round | section 4.2: 16 problems of 64 samples                  |
| learning rate | 1e-6       | section 4.2                                                                   |
| KL            | 0.04, k3   | section 4.2 and eq. 4; against the model as the run began                     |
| clip          | 0.2        | ours: with one update a round no ratio leaves 1                               |
| reward        | the answer's correctness | the paper's is a trained reward model: a rule here, as in DeepSeek-R1's |
| temperature   | 1          | ours: not said                                                                |
| updates       | 1000       | ours: not said                                                                |

`objective:dr-grpo`, `objective:dapo`, `objective:gspo` and the others of `docs/methods/grpo.md` are the same run with
another objective; `--feedback.server.url` draws through an inference server.
"""

from __future__ import annotations

from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.objectives import GRPO
from penchant.recipe import Evaluation, Recipe, RewardTerm, Rollouts, Training
from penchant.references.spec import Reference


def embedded() -> Recipe:
    """The shipped thinker and its verifier: right answers are all that counts; minutes on one core."""
    decoding = Decoding(max_tokens=320)
    return Recipe(
        name="grpo",
        policy=Policy(path="zoo:thinker"),
        likelihood=Autoregressive(),
        objective=GRPO(),
        feedback=Rollouts(
            prompts="zoo:thinker/problems",
            rewards=(RewardTerm(judge="exact-match:zoo:thinker/answers"),),
            candidates=8,
            prompts_a_round=16,
            decoding=decoding,
            batch_size=256,
        ),
        train=Training(steps=60, batch_size=16, lr=1e-4, warmup=5, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:thinker/held-out",
            count=160,
            seeds=4,
            decoding=decoding,
            batch_size=256,
            # The rule that rewards: what is held out are the problems.
            judges=("exact-match:zoo:thinker/answers",),
        ),
        threads=1,
    )


def deepseekmath() -> Recipe:
    """DeepSeekMath-Instruct 7B with verified answers, drawn where the model trains."""
    return Recipe(
        name="llm-grpo",
        policy=Policy(
            path="deepseek-ai/deepseek-math-7b-instruct",
            dtype="bfloat16",
            gradient_checkpointing=True,
            max_prompt=1024,
        ),
        likelihood=Autoregressive(),
        objective=GRPO(beta=0.04),
        feedback=Rollouts(
            prompts="math-problems.jsonl",
            rewards=(RewardTerm(judge="math-verify:math-problems.jsonl"),),
            candidates=64,
            prompts_a_round=16,
            decoding=Decoding(max_tokens=1024),
            batch_size=256,
        ),
        reference=Reference(kind="frozen"),
        train=Training(
            steps=1000,
            batch_size=16,
            micro_batch=1,
            lr=1e-6,
            weight_decay=0.0,
            precision="bf16",
            save_every=50,
        ),
    )
