"""MusicRL (Cideron et al., arXiv 2402.04229): R, U and RU at the embedded scale, its offline peer, and MusicGen.

    penchant align musicrl-r            --out runs/musicrl-r          # adherence and quality
    penchant align musicrl-u            --out runs/musicrl-u          # preference
    penchant align musicrl-ru           --out runs/musicrl-ru         # preference, from R, with R as reference
    penchant listen runs/musicrl-r runs/musicrl-u runs/musicrl-ru

| value         | paper                                | embedded                             | `musicgen-rl`     |
|---------------|--------------------------------------|--------------------------------------|-------------------|
| policy        | MusicLM, semantic and coarse tokens  | the shipped tune model               | MusicGen small    |
| algorithm     | REINFORCE, value baseline, exact KL  | the same                             | the same          |
| value network | from the policy's checkpoint         | the same; begins at the mean reward  | the same          |
| alpha         | not stated                           | 0.05: ours                           | 0.05: ours        |
| temperature   | 0.99                                 | the same                             | the same          |
| R's reward    | MuLan + (quality - 1) / 4            | adherence + (quality - 1) / 4        | CLAP + quality    |
| U's reward    | preference model of 300,000 votes    | the same of simulated listeners      | -                 |
| lengths       | 30 s, fixed                          | eight bars, fixed by the form        | 10 s, fixed: ours |
| batch         | not stated                           | 32 captions, one sample each: ours   | 64: ours          |
| optimiser     | not stated                           | AdamW (.9, .95), 5e-4, clip 1: ours  | 1e-5: ours        |
| steps, R      | 20,000, of which 10,000 are used     | 120: ours                            | 10,000            |
| steps, U      | 5,000, of which 2,000 are used       | 60: ours                             | -                 |
| steps, RU     | 1,000                                | 30: ours                             | -                 |
| KL reference  | the base; for RU it is R             | the same                             | the base          |

The quality of sound is constant where one string plucks every tune: quality is craft here. The value network of
`musicgen-rl` trains beside the whole decoder; a judge with packages of its own may stand behind a server instead
(`docs/reward-server.md`).
"""

from __future__ import annotations

from dataclasses import replace

from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.objectives import DPO, REINFORCE
from penchant.recipe import Evaluation, Preferences, Recipe, RewardTerm, Rollouts, Training
from penchant.references.spec import Reference

_DECODING = Decoding(max_tokens=160, temperature=0.99)
_ADHERENCE, _QUALITY, _PREFERENCE = "zoo:tunes/adherence", "zoo:tunes/quality", "zoo:tunes/preference"
_R = (RewardTerm(judge=_ADHERENCE), RewardTerm(judge=_QUALITY, low=1.0, high=5.0))
_U = (RewardTerm(judge=_PREFERENCE),)


def r() -> Recipe:
    """The shipped tune model learns to write what was asked, and well: adherence and quality as rewards."""
    return _musicrl("musicrl-r", _R, steps=120)


def u() -> Recipe:
    """The same from the preference of simulated listeners alone."""
    return _musicrl("musicrl-u", _U, steps=60)


def ru() -> Recipe:
    """Few steps on the preference from where `musicrl-r` ended, which is its reference: run that first."""
    made = _musicrl("musicrl-ru", _U, steps=30)
    return replace(made, policy=replace(made.policy, path="runs/musicrl-r/model"))


def _musicrl(name: str, rewards: tuple[RewardTerm, ...], *, steps: int) -> Recipe:
    return Recipe(
        name=name,
        policy=Policy(path="zoo:tunes", notation="tune"),
        likelihood=Autoregressive(temperature=_DECODING.temperature),
        objective=REINFORCE(alpha=0.05),
        feedback=Rollouts(
            prompts="zoo:tunes/captions",
            rewards=rewards,
            candidates=1,
            prompts_a_round=32,
            decoding=_DECODING,
        ),
        reference=Reference(kind="frozen"),
        train=Training(steps=steps, batch_size=32, lr=5e-4, betas=(0.9, 0.95), weight_decay=0.0),
        evaluation=_evaluation(rewards),
        threads=1,
    )


def _evaluation(rewards: tuple[RewardTerm, ...]) -> Evaluation:
    return Evaluation(
        prompts="zoo:tunes/held-out",
        count=26,
        seeds=8,
        decoding=_DECODING,
        batch_size=128,
        # The raters of the paper gave one score for adherence, quality and appeal together.
        judges=("zoo:tunes/judge#overall", "tune-rules"),
        trained_against=tuple(reward.judge for reward in rewards),
    )


def dpo() -> Recipe:
    """DPO on the simulated listeners' votes themselves: offline, without a preference model."""
    return replace(
        u(),
        name="music-dpo",
        likelihood=Autoregressive(),
        objective=DPO(beta=0.1),
        # The listeners of half b are the held-out judge's.
        feedback=Preferences(path="zoo:tunes/pairs", dimension="preference", source="simulated:listeners/a"),
        train=Training(steps=120, batch_size=32, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0),
        cite=("cideron2024musicrl",),
    )


def musicgen() -> Recipe:
    """MusicGen small on CLAP and on Audiobox-aesthetics' production quality."""
    return Recipe(
        name="musicgen-rl",
        policy=Policy(path="facebook/musicgen-small", seconds=10.0),
        likelihood=Autoregressive(temperature=0.99),
        objective=REINFORCE(alpha=0.05),
        feedback=Rollouts(
            prompts="music-captions.txt",
            rewards=(
                RewardTerm(judge="clap"),
                RewardTerm(judge="audiobox#production-quality", low=1.0, high=10.0),
            ),
            candidates=1,
            prompts_a_round=64,
            decoding=Decoding(max_tokens=503, temperature=0.99),
            batch_size=16,
        ),
        reference=Reference(kind="frozen"),
        train=Training(
            steps=10_000,
            batch_size=64,
            micro_batch=4,
            lr=1e-5,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            warmup=100,
            precision="bf16",
            save_every=200,
        ),
    )
