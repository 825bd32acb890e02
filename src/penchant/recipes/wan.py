"""Flow-DPO and Flow-RWR (Liu et al., arXiv 2501.13918, sections 4.2 and 4.3) on Wan 2.1, with the paper's values.

| value         | paper (table 10)                    | here                                                        |
|---------------|-------------------------------------|-------------------------------------------------------------|
| model         | internal, 1 B, flow matching, T5    | Wan 2.1 1.3 B, the public model nearest to it               |
| adapter       | LoRA r 64, alpha 128, dropout 0     | the same                                                    |
| layers        | q, k, v, o projections              | the same, of self- and cross-attention                      |
| optimiser     | Adam, 5e-6                          | AdamW without decay, 5e-6                                   |
| batch         | 64 pairs on 16 GPUs                 | 64 pairs, one at a time on a process                        |
| epochs        | 1                                   | 1: 182,000 pairs in batches of 64                           |
| beta          | 500, constant in t                  | the same, on the mean error (`penchant.objectives.beta`)    |
| time          | uniform (appendix C)                | the same, without the model's shift                         |
| labels        | VideoReward's, of its training clips| `videoalign/train.csv`, with the preference as `Overall`    |
| weight (RWR)  | exp(r); no more is said             | exp(r) held at 20, r in deviations: ours                    |
| rewards (RWR) | mean of VQ, MQ and TA, normalised   | what `penchant score` writes with one's own VideoReward     |
| size          | not said                            | 480 x 832, 81 frames at 16 a second: Wan's own              |

The clips were not released, so the tables are one's own, in VideoAlign's layout. What is named beta(1-t)^2 there is
`--likelihood.weight one_minus_t_squared`; the paper advises against it. Flow-RWR reads what these two commands leave:

    penchant train-reward qwen2vl-videoreward --feedback.path videoalign/train.csv --out runs/videoreward
    penchant score videoalign/train.csv --judges 'runs/videoreward/model#overall' --out videoalign/scored
"""

from __future__ import annotations

from penchant.likelihoods import FlowMatching
from penchant.models.spec import Policy
from penchant.objectives import DPO, RWR, ExpWeight
from penchant.objectives.beta import convert
from penchant.recipe import Preferences, Recipe, Training

_POLICY = Policy(
    path="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    lora=64,
    lora_alpha=128.0,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    dtype="bfloat16",
    gradient_checkpointing=True,
)
# t ~ U(0, 1) in the pseudo-code of appendix C; a constant weight is what section 4.2 recommends.
_LIKELIHOOD = FlowMatching(time="uniform", shift=1.0, weight="constant")
_TRAIN = Training(
    steps=182_000 // 64,
    batch_size=64,
    micro_batch=1,
    by_candidate=True,
    lr=5e-6,
    weight_decay=0.0,
    precision="bf16",
    save_every=200,
)


def flow_dpo() -> Recipe:
    """Wan 2.1 1.3 B on VideoAlign-shaped pairs, constant beta."""
    return Recipe(
        name="wan-flow-dpo",
        policy=_POLICY,
        likelihood=_LIKELIHOOD,
        objective=DPO(beta=convert(500.0, source="videoalign")),
        feedback=Preferences(path="videoalign/train.csv"),
        train=_TRAIN,
    )


def flow_rwr() -> Recipe:
    """Wan 2.1 1.3 B on clips weighted by their normalised rewards."""
    return Recipe(
        name="wan-flow-rwr",
        policy=_POLICY,
        likelihood=_LIKELIHOOD,
        objective=RWR(weight=ExpWeight(temperature=1.0)),
        # `penchant score` names a dimension by the judge's address.
        feedback=Preferences(path="videoalign/scored/data", dimension="runs/videoreward/model#overall", ties="keep"),
        train=_TRAIN,
    )
