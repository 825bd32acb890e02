"""Drawing: which prompts a round has, and the K samples that the policy gives to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penchant.errors import RecipeError
from penchant.feedback.audio_encoding import encode_sound
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate, Group, Media, Prompt
from penchant.feedback.sound import Sound
from penchant.feedback.video_files import encode_clip
from penchant.iterations.spec import Draws, Iterations
from penchant.likelihoods.randomness import generator
from penchant.models.spec import Policy
from penchant.rollouts.prompts import all_prompts
from penchant.sampling.samplers import Modality

if TYPE_CHECKING:
    from PIL.Image import Image

    from penchant.models.completion import Completion

Say = Callable[[str], None]


def round_prompts(spec: Iterations, number: int) -> list[Prompt]:
    """The prompts of a round: slices of one counted shuffle, so that no prompt serves twice.

    Raises:
        RecipeError: there are too few for all rounds.
    """
    prompts = all_prompts(spec.prompts)
    size = spec.prompts_a_round
    if len(prompts) < size * spec.rounds:
        raise RecipeError(
            f"holds {len(prompts)} prompts; {spec.rounds} rounds of {size} need {size * spec.rounds}.",
            file=spec.prompts,
            field="prompts_a_round",
            remedy="give more prompts, or fewer a round.",
        )
    order = generator(spec.seed, 0, "prompts", "rounds").permutation(len(prompts))
    return [prompts[i] for i in order[number * size : (number + 1) * size]]


def draw(
    policy: Policy, prompts: Sequence[Prompt], draws: Draws, *, cache: Path, number: int, seed: int, say: Say
) -> list[Group]:
    """One group a prompt: K samples at counted seeds, kept by content while the round is not whole.

    Args:
        policy: who answers.
        prompts: what is asked.
        draws: how.
        cache: folder of samples; a stop loses one batch.
        number: which round.
        seed: of the iterations.
        say: where progress goes.
    """
    from penchant.models import load
    from penchant.recipe import Evaluation
    from penchant.sampling.samplers import sampler_of
    from penchant.sampling.samples import SampleCache

    model = load(policy)
    if _accelerated():
        model = model.to("cuda")
    settings = Evaluation(
        decoding=draws.decoding, steps=draws.steps, guidance=draws.guidance, batch_size=draws.batch_size
    )
    sampler, K = sampler_of(model, settings), draws.candidates
    seeds = [int(generator(seed, number, p.text, f"rollout {k}").integers(2**31)) for p in prompts for k in range(K)]

    def tell(done: int, total: int) -> None:
        say(f"round {number}: drew {done} of {total} samples")

    samples = SampleCache(cache).sample(sampler, [p for p in prompts for _ in range(K)], seeds, progress=tell)
    made, who = _MADE[sampler.modality], policy.adapter or policy.path
    rows = [made(sample, seed, who) for sample, seed in zip(samples, seeds, strict=True)]
    return [
        Group(
            prompt=prompt.text,
            candidates=tuple(rows[i * K : (i + 1) * K]),
            extra={"messages": [dict(m) for m in prompt.messages]} if prompt.messages else {},
            provenance={"round": number},
        )
        for i, prompt in enumerate(prompts)
    ]


def _accelerated() -> bool:
    import torch

    return torch.cuda.is_available()


def _text(sample: Completion, seed: int, model: str) -> Candidate:
    """A completion, with the tokens that were drawn and the log-probs at which they were."""
    settings = {"tokens": list(sample.tokens), "log_probs": list(sample.log_probs), "finished": sample.finished}
    return Candidate(text=sample.text, model=model, seed=seed, settings=settings)


def _picture(sample: Image, seed: int, model: str) -> Candidate:
    buffer = BytesIO()
    sample.save(buffer, "PNG")
    return Candidate(media=Media.of(buffer.getvalue()), model=model, seed=seed)


def _clip(sample: Clip, seed: int, model: str) -> Candidate:
    return Candidate(media=Media.of(encode_clip(sample)), model=model, seed=seed)


def _sound(sample: Sound, seed: int, model: str) -> Candidate:
    return Candidate(media=Media.of(encode_sound(sample)), model=model, seed=seed)


_MADE: dict[Modality, Callable[[Any, int, str], Candidate]] = {
    "picture": _picture,
    "text": _text,
    "clip": _clip,
    "tune": _text,
    "sound": _sound,
}
