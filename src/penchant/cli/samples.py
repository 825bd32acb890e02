"""The verb `sample`: samples of a model at fixed seeds, steered by a reward if one is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from penchant.cli.words import options
from penchant.errors import ModelError, RecipeError


def sample(words: Sequence[str]) -> int:
    """`penchant sample MODEL PROMPT ...`."""

    def show(
        model: str,
        prompts: tuple[str, ...],
        adapter: str | None = None,
        out: Path = Path("samples"),
        seeds: int = 1,
        steps: int = 25,
        guidance: float = 3.0,
        reward: Path | None = None,
        weights: tuple[str, ...] = (),
        scale: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        relative_clip: float | None = None,
        max_tokens: int = 256,
        temperature: float = 1.0,
        top_p: float = 1.0,
        notation: Literal["tune"] | None = None,
    ) -> int:
        """Samples a model at fixed seeds and writes the samples with a manifest.

        Pictures and clips get a contact sheet, music a page that plays it; texts are printed as well. With a reward on
        noised latents (`penchant train-reward flow-nrg`) pictures and clips follow it; with `--scale 0` they are those
        of the same solver without it.

        Args:
            model: pipeline folder, folder of a language model, hub id, or zoo:NAME.
            prompts: one or more prompts.
            adapter: folder of LoRA weights, such as a run's `model`.
            out: folder to write to.
            seeds: samples a prompt.
            steps: denoising steps (pictures, clips).
            guidance: scale of classifier-free guidance (pictures, clips).
            reward: folder of a reward on noised latents that steers (pictures, clips).
            weights: DIMENSION=WEIGHT of the reward, e.g. VQ=0.5 MQ=0.5; none means 1 for each dimension.
            scale: how strongly the reward steers.
            interval: noise levels between which it steers.
            relative_clip: its push is at most this fraction of the model's prediction.
            max_tokens: longest completion in tokens (texts).
            temperature: the logits are divided by it, 0 is greedy (texts).
            top_p: tokens are drawn from the smallest set with this much probability (texts).
            notation: what the texts are, if they are music.
        """
        from penchant.feedback.groups import Prompt
        from penchant.models import load
        from penchant.models.completion import Decoding
        from penchant.models.loading import quiet
        from penchant.models.spec import Policy
        from penchant.recipe import Evaluation
        from penchant.sampling.samplers import sampler_of

        quiet()
        if not prompts:
            raise RecipeError(
                "there is no prompt.", field="prompts", remedy='e.g. penchant sample zoo:emoji "red heart".'
            )
        if weights and reward is None:
            raise RecipeError(
                "weights are those of a reward, and there is none.", field="weights", remedy="add --reward FOLDER."
            )
        decoding = Decoding(max_tokens=max_tokens, temperature=temperature, top_p=top_p)
        spec = Evaluation(seeds=seeds, steps=steps, guidance=guidance, decoding=decoding)
        loaded = load(Policy(path=model, adapter=adapter, notation=notation))
        sampler: Any = sampler_of(loaded, spec)
        if reward is not None:
            sampler = _guided(sampler, reward, weights, scale=scale, interval=interval, relative_clip=relative_clip)
        rows = [(prompt, seed) for prompt in prompts for seed in range(seeds)]
        drawn = sampler.draw([Prompt(text=p) for p, _ in rows], [s for _, s in rows])
        print(_KEEPERS[sampler.modality](out, rows, drawn))
        return 0

    return options("sample", show, words)


def _guided(sampler: Any, folder: Path, weights: Sequence[str], **guidance: Any) -> Any:
    """The sampler's model with its settings, steered by the reward in `folder` (or in the run's `model`)."""
    from penchant.evaluate.words import WORDS
    from penchant.reward_models.noised import NoisedReward
    from penchant.sampling.guidance import RewardGuidance
    from penchant.sampling.guided import GuidedSampler
    from penchant.sampling.ode import Steering

    if sampler.modality not in ("picture", "clip"):
        kind = WORDS[sampler.modality].samples
        raise ModelError(f"makes {kind}, and no reward steers {kind}.", field="reward", remedy="leave it out.")
    inner = folder / "model"
    reward = NoisedReward.load(inner if (inner / "config.json").exists() else folder, sampler.model)
    chosen = _weights(weights) or dict.fromkeys(reward.dimensions, 1.0)
    return GuidedSampler(
        model=sampler.model,
        steps=sampler.steps,
        guidance=sampler.guidance,
        batch_size=sampler.batch_size,
        steering=Steering(reward=reward, guidance=RewardGuidance(weights=chosen, **guidance)),
    )


def _weights(words: Sequence[str]) -> dict[str, float]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise RecipeError(f"'{word}' is no weight.", field="weights", remedy="write DIMENSION=WEIGHT, e.g. VQ=0.5.")
    return found


def _keep_pictures(out: Path, rows: Sequence[tuple[str, int]], images: Sequence[Any]) -> Path:
    """Writes pictures, manifest and contact sheet; returns the sheet's path."""
    from penchant.evaluate import Sample, contact_sheet, save_samples

    save_samples(out, [Sample(prompt=p, seed=s, image=i) for (p, s), i in zip(rows, images, strict=True)])
    sheet = out / "sheet.png"
    contact_sheet(images, [p for p, _ in rows], columns=min(8, len(images)), tile=128).save(sheet)
    return sheet


def _keep_texts(out: Path, rows: Sequence[tuple[str, int]], completions: Sequence[Any]) -> Path:
    """Prints texts, writes them with a manifest; returns the manifest's path."""
    from penchant.evaluate import TextSample, save_samples
    from penchant.evaluate.markup import printable

    for (prompt, seed), completion in zip(rows, completions, strict=True):
        end = f"{len(completion.tokens)} tokens" + ("" if completion.finished else ", unfinished")
        print(f"> {printable(prompt)}\n{printable(completion.text)}\n[seed {seed}, {end}]\n")
    samples = [
        TextSample(prompt=p, seed=s, text=c.text, tokens=len(c.tokens) or None, finished=c.finished)
        for (p, s), c in zip(rows, completions, strict=True)
    ]
    return save_samples(out, samples)


def _keep_clips(out: Path, rows: Sequence[tuple[str, int]], clips: Sequence[Any]) -> Path:
    """Writes clips as lossless animated PNG, manifest, and a sheet on which they play in step; returns its path."""
    from penchant.evaluate.samples import ClipSample, clip_sheet, save_samples
    from penchant.feedback.video_files import encode_clip

    save_samples(out, [ClipSample(prompt=p, seed=s, clip=c) for (p, s), c in zip(rows, clips, strict=True)])
    sheet = out / "sheet.apng"
    sheet.write_bytes(encode_clip(clip_sheet(clips, [p for p, _ in rows], columns=min(8, len(clips)), tile=128)))
    return sheet


def _keep_tunes(out: Path, rows: Sequence[tuple[str, int]], tunes: Sequence[Any]) -> Path:
    """Prints tunes, writes their notation with a manifest, and a page that plays and draws them; returns its path."""
    from penchant.evaluate import tune_player

    _keep_texts(out, rows, tunes)
    players = [
        tune_player(tune.text, prompt, label=f"seed {seed}", finished=tune.finished)
        for (prompt, seed), tune in zip(rows, tunes, strict=True)
    ]
    return _listening_sheet(out, rows, players)


def _keep_sounds(out: Path, rows: Sequence[tuple[str, int]], sounds: Sequence[Any]) -> Path:
    """Writes sounds as WAV with a manifest, and a page that plays and draws them; returns its path."""
    from penchant.evaluate import SoundSample, save_samples, sound_player

    save_samples(out, [SoundSample(prompt=p, seed=s, sound=a) for (p, s), a in zip(rows, sounds, strict=True)])
    players = [sound_player(sound, label=f"seed {seed}") for (_, seed), sound in zip(rows, sounds, strict=True)]
    return _listening_sheet(out, rows, players)


def _listening_sheet(out: Path, rows: Sequence[tuple[str, int]], players: Sequence[Any]) -> Path:
    """Music of one prompt stands side by side, at one loudness."""
    from penchant.evaluate import PlayerRow
    from penchant.evaluate.report import write_sheet

    by_prompt: dict[str, list[Any]] = {}
    for (prompt, _), player in zip(rows, players, strict=True):
        by_prompt.setdefault(prompt, []).append(player)
    figures = [PlayerRow.of(prompt, None, made) for prompt, made in by_prompt.items()]
    return write_sheet(out / "sheet.html", out.resolve().name, figures)


_KEEPERS = {
    "picture": _keep_pictures,
    "text": _keep_texts,
    "clip": _keep_clips,
    "tune": _keep_tunes,
    "sound": _keep_sounds,
}
