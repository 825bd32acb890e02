"""Rewards on noised latents: what is drawn for a pair, the generator's trunk, training, and steering by the result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from reward_model_fixtures import TINY, A, B, drawings, png, written
from torch import Tensor
from torch.testing import assert_close

import penchant
from penchant.cli import main
from penchant.errors import ModelError, RecipeError
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate, Group, Judgement, Media, Prompt
from penchant.judges import load as load_judge
from penchant.likelihoods import gaussian
from penchant.recipe import Training
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import REWARDS
from penchant.reward_models.latent import CONDITION, GeneratorTrunk, LatentNetwork, LatentSpec
from penchant.reward_models.losses import BradleyTerry
from penchant.reward_models.network import Dimension, RewardNetwork
from penchant.reward_models.noised import NoisedReward
from penchant.reward_training import Annotations, RewardRecipe
from penchant.reward_training.data import Library
from penchant.reward_training.run import train_reward
from penchant.sampling.guidance import RewardGuidance
from penchant.sampling.guided import GuidedSampler
from penchant.sampling.ode import Steering
from penchant.testing import build

PICTURES = ("stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux")
CLIPS = ("wan", "ltx", "hunyuan-video", "cogvideox", "mochi")
VQ, MQ = Dimension(name="VQ"), Dimension(name="MQ")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in loaded:
            folder = build(name, tmp_path_factory.mktemp("tiny") / name)
            loaded[name] = penchant.load(str(folder), **({"resolution": 32} if name == "flux" else {}))
        return loaded[name]

    return load


def samples(model: Any, count: int = 4) -> list[Any]:
    rng = np.random.default_rng(0)
    if model.modality == "clip":
        return [Clip(frames=rng.integers(0, 255, (18, 40, 40, 3), dtype=np.uint8), fps=12.0) for _ in range(count)]
    return [Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(count)]


def network(model: Any, spec: LatentSpec) -> RewardNetwork:
    torch.manual_seed(0)
    return RewardNetwork(spec.attached(model), (VQ, MQ), "mean")


def rows_of(net: RewardNetwork, model: Any) -> dict[str, Tensor]:
    """Two pairs: their first samples, then their second ones."""
    return net.backbone.collate(["a cat", "rain"] * 2, [net.backbone.prepare(s) for s in samples(model)])


TRUNK, SMALL = GeneratorTrunk(generator="-", layers=1), LatentNetwork(generator="-", channels=16, layers=1)


@pytest.mark.parametrize("family", [*PICTURES, *CLIPS])
def test_every_family_has_a_trunk_and_feeds_a_small_network(tiny: Callable[[str], Any], family: str) -> None:
    """Scores follow latents, time and prompt, and have a gradient to all three."""
    model = tiny(family)
    # The first stage of a UNet's way down reads no prompt.
    for spec in (
        replace(TRUNK, layers=2) if family.startswith("stable-diffusion") and family[-1] != "3" else TRUNK,
        SMALL,
    ):
        net = network(model, spec)
        rows = net.backbone.drawn(rows_of(net, model), [("x", 0), ("y", 0)], seed=0)
        noisy = gaussian.add_noise(rows["latents"], rows.pop("noise"), *net.backbone.coefficients(rows["time"]))
        rows["latents"] = noisy.detach().requires_grad_()
        scores = net(rows)
        assert scores.shape == (4, 2)
        scores.sum().backward()
        assert rows["latents"].grad.flatten(1).norm(dim=1).min() > 0  # type: ignore[union-attr]
        later = net({**rows, "time": rows["time"] // 2 if rows["time"].dtype == torch.long else rows["time"] / 2})
        other = net({name: v.flip(0) if name.startswith(CONDITION) else v for name, v in rows.items()})
        assert not torch.allclose(later, scores)
        assert not torch.allclose(other, scores)


@pytest.mark.parametrize("family", ["stable-diffusion-3", "wan", "stable-diffusion"])
def test_a_trunk_begins_as_the_generators_own_layers_and_trains_apart_from_them(
    tiny: Callable[[str], Any], family: str
) -> None:
    model = tiny(family)
    before = model.fingerprint()
    net = network(model, TRUNK)
    rows = rows_of(net, model)
    time_N = torch.full((4,), 500 if model.alphas_cumprod is not None else 0.5)
    condition = {name.removeprefix(CONDITION): v for name, v in rows.items() if name.startswith(CONDITION)}
    seen: list[Any] = []
    blocks = model.bare.down_blocks if family == "stable-diffusion" else None
    blocks = blocks or getattr(model.bare, "blocks", None) or model.bare.transformer_blocks
    handle = blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model.denoise(rows["latents"], time_N, condition, {})
        handle.remove()
        got = net.backbone.body(rows["latents"], time_N, condition, {})
    own = {"stable-diffusion-3": lambda o: o[1], "wan": lambda o: o, "stable-diffusion": lambda o: o[0]}[family](
        seen[0]
    )
    assert torch.equal(got, own if own.dim() == 3 else own.flatten(2).transpose(1, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert model.fingerprint() == before


def test_a_pair_shares_its_time_and_its_noise_only_if_asked(tiny: Callable[[str], Any]) -> None:
    model = tiny("stable-diffusion-3")
    names = [("x", 0), ("y", 0)]
    for noise, same in (("shared", True), ("independent", False)):
        net = network(model, replace(SMALL, noise=noise))
        rows = net.backbone.drawn(rows_of(net, model), names, seed=0)
        assert torch.equal(rows["time"][:2], rows["time"][2:])
        assert torch.equal(rows["noise"][:2], rows["noise"][2:]) == same
        assert rows["time"][0] != rows["time"][1]
        again = net.backbone.drawn(rows_of(net, model), names, seed=0)
        later = net.backbone.drawn(rows_of(net, model), [("x", 1), ("y", 0)], seed=0)
        assert torch.equal(again["noise"], rows["noise"])
        assert [bool((later["noise"][i] == rows["noise"][i]).all()) for i in range(4)] == [False, True, False, True]
    clean = network(model, replace(SMALL, noise="clean"))
    rows = rows_of(clean, model)
    assert clean.backbone.drawn(rows, names, seed=0).keys() == rows.keys()
    # It is told no time either: noised latents are data to it.
    assert torch.equal(clean({**rows, "time": torch.full((4,), 0.7)}), clean(rows))


def test_times_go_through_the_generators_shift(tiny: Callable[[str], Any]) -> None:
    net = network(tiny("stable-diffusion-3"), SMALL)
    rows = {"latents": torch.zeros(4000, 1)}
    time_N = net.backbone.drawn(rows, [(str(i), 0) for i in range(2000)], seed=0)["time"]
    assert_close(time_N.median().item(), 0.75, atol=0.03, rtol=0)
    whole = network(tiny("stable-diffusion"), SMALL).backbone.drawn(rows, [(str(i), 0) for i in range(2000)], seed=0)
    assert whole["time"].dtype == torch.long
    assert 0 <= whole["time"].min() < 10
    assert 990 < whole["time"].max() < 1000


def test_an_adapter_on_the_generator_changes_no_reward(tiny: Callable[[str], Any]) -> None:
    """The trunk is that of the base, whatever the policy has learnt."""
    model = tiny("stable-diffusion-3")
    adapted = penchant.load(model.pipeline.config._name_or_path, lora=2)
    with torch.no_grad():
        for parameter in adapted.trainable_parameters():
            parameter.add_(0.1)
    plain, other = network(model, TRUNK), network(adapted, TRUNK)
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in plain.named_parameters()]
    rows = rows_of(plain, model)
    assert torch.equal(plain(rows), other(rows))


# --- from training to steering --------------------------------------------------------------------------------------


def spoilt(count: int) -> list[Group]:
    """Pairs of a drawing and its inverted (VQ) or blurred (MQ) copy, in both orders; the labels are simulated."""
    groups = []
    for i, (caption, picture) in enumerate(drawings(count)):
        small = picture.convert("RGB").resize((32, 32))
        worse = Image.fromarray(255 - np.asarray(small)) if i % 2 else small.filter(ImageFilter.GaussianBlur(3))
        sides = [Candidate(media=Media.of(png(side))) for side in (small, worse)]
        groups.append(
            Group(
                prompt=caption,
                candidates=tuple(sides if i % 3 else sides[::-1]),
                judgements=(
                    Judgement(
                        kind="pair",
                        dimension="VQ" if i % 2 else "MQ",
                        values=A if i % 3 else B,
                        source="simulated:test",
                    ),
                ),
                split=("train", "train", "train", "validation")[i // 2 % 4],
            )
        )
    return groups


@pytest.fixture(scope="module")
def run(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a reward trained on the latents of the tiny Stable Diffusion 3."""
    folder = tmp_path_factory.mktemp("latent reward")
    generator = tiny("stable-diffusion-3").pipeline.config._name_or_path
    recipe = RewardRecipe(
        name="latent",
        feedback=Annotations(path=written(spoilt(48), folder / "pairs.parquet")),
        dimensions=(VQ, MQ),
        loss=BradleyTerry(),
        backbone=LatentNetwork(generator=generator, channels=32, layers=2, width=32),
        pooling="mean",
        train=Training(steps=60, batch_size=16, lr=3e-3, warmup=5),
        out=str(folder / "run"),
        threads=1,
    )
    train_reward(recipe, say=lambda text: None)
    return folder / "run"


def test_a_trained_reward_is_a_judge_of_finished_samples_too(run: Path) -> None:
    judge = load_judge(str(run / "model"))
    (_, picture), *_ = drawings(64)
    small = picture.convert("RGB").resize((32, 32))
    scores = judge.score(["", ""], [small, Image.fromarray(255 - np.asarray(small))])
    assert judge.dimensions == ("VQ", "MQ")
    assert scores[0, 0] > scores[1, 0]


def test_it_tells_noised_samples_apart_and_less_the_more_noise_there_is(run: Path, tiny: Callable[[str], Any]) -> None:
    model = tiny("stable-diffusion-3")
    reward = NoisedReward.load(run / "model", model)
    good = [p.convert("RGB").resize((32, 32)) for _, p in drawings(24)]
    sides = [good, [Image.fromarray(255 - np.asarray(p)) for p in good]]
    latents = [model.encode_images(side, ids=[str(i) for i in range(24)])["latents"] for side in sides]
    condition = model.encode_prompts([caption for caption, _ in drawings(24)])
    noise = torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(0))
    gaps = []
    for t in (0.1, 0.5, 0.95):
        times = torch.full((24,), t)
        won, lost = (reward.score((1 - t) * x + t * noise, times, condition)[:, 0] for x in latents)
        gaps.append((won - lost).mean().item())
    assert gaps[0] > gaps[1] > gaps[2] > -0.1
    assert gaps[0] > 0.5


def test_guided_samples_score_higher_the_larger_the_scale(run: Path, tiny: Callable[[str], Any]) -> None:
    model = tiny("stable-diffusion-3")
    reward = NoisedReward.load(run / "model", model)
    prompts, seeds = ["red heart", "cat"], [0, 1]
    condition, values, drawn = model.encode_prompts(prompts), [], {}
    for scale in (-4.0, 0.0, 4.0):
        guidance = RewardGuidance(weights={"VQ": 1.0}, scale=scale, relative_clip=0.5)
        sampler = GuidedSampler(model=model, steps=8, guidance=2.0, steering=Steering(reward=reward, guidance=guidance))
        drawn[scale] = sampler.latents(prompts, seeds)
        values.append(reward.score(drawn[scale], torch.zeros(2), condition)[:, 0].mean().item())
    assert values == sorted(values)
    assert values[-1] > values[0]
    plain = GuidedSampler(model=model, steps=8, guidance=2.0, steering=None)
    assert torch.equal(plain.latents(prompts, seeds), drawn[0.0])
    assert_close(plain.latents(["cat"], [1]), drawn[0.0][1:])


def test_kept_samples_are_told_apart_by_all_that_steers(run: Path, tiny: Callable[[str], Any]) -> None:
    model = tiny("stable-diffusion-3")
    reward = NoisedReward.load(run / "model", model)
    guidances = [RewardGuidance(weights={"VQ": w}, scale=s) for w, s in ((1.0, 1.0), (0.5, 1.0), (1.0, 2.0))]
    base = GuidedSampler(model=model, steps=2, guidance=1.0, steering=None)
    samplers = [replace(base, steering=Steering(reward=reward, guidance=guidance)) for guidance in guidances]
    assert len({sampler.name() for sampler in (base, *samplers, replace(base, steps=3))}) == 5
    assert base.draw([Prompt(text="cat")], [0])[0].size == (32, 32)


def test_the_command_line_steers(run: Path, tiny: Callable[[str], Any], tmp_path: Path, capsys: Any) -> None:
    generator = tiny("stable-diffusion-3").pipeline.config._name_or_path
    words = ["sample", generator, "red heart", "--steps", "3", "--guidance", "1", "--reward", str(run)]
    assert (
        main([*words, "--weights", "VQ=0.5", "MQ=0.5", "--relative-clip", "0.3", "--out", str(tmp_path / "one")]) == 0
    )
    assert main([*words, "--scale", "0", "--out", str(tmp_path / "none")]) == 0
    one, none = (np.asarray(Image.open(tmp_path / name / "00000.png")) for name in ("one", "none"))
    assert (one != none).any()
    for extra, said in ((["VG=1"], "did you mean 'VQ'"), (["VQ"], "DIMENSION=WEIGHT")):
        assert main([*words, "--weights", *extra, "--out", str(tmp_path / "bad")]) == 2
        assert said in capsys.readouterr().err
    assert main(["sample", generator, "x", "--weights", "VQ=1"]) == 2
    assert "add --reward" in capsys.readouterr().err


def test_the_command_line_samples_clips(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    from penchant.evaluate import load_samples

    generator = tiny("wan").pipeline.config._name_or_path
    assert main(["sample", generator, "rain", "--steps", "2", "--guidance", "1", "--out", str(tmp_path / "s")]) == 0
    (kept,) = load_samples(tmp_path / "s")
    again = tiny("wan").generate(["rain"], seeds=[0], steps=2, guidance=1.0)[0]
    assert (kept.prompt, kept.seed, kept.clip.fps) == ("rain", 0, 6.0)
    assert np.array_equal(kept.clip.frames, again.frames)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_by_name(run: Path, tiny: Callable[[str], Any], tmp_path: Path) -> None:
    model = tiny("wan")
    with pytest.raises(ModelError, match="use 1 to 2"):
        replace(TRUNK, layers=3).attached(model)
    with pytest.raises(ModelError, match="another shape"):
        NoisedReward.load(run / "model", model)
    with pytest.raises(RecipeError, match="mean"):
        replace(SMALL, generator=model.pipeline.config._name_or_path).build((VQ,), prompts=(), folder=None)
    with pytest.raises(ModelError, match="no description"):
        NoisedReward.load(tmp_path, model)
    odd = copy.copy(model)
    odd.bare = torch.nn.Linear(1, 1)
    with pytest.raises(ModelError, match="latent_network"):
        TRUNK.attached(odd)


def test_a_language_model_has_no_latents(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "llama")
    with pytest.raises(ModelError, match="no latents"):
        replace(SMALL, generator=str(folder)).build((), prompts=(), folder=None)


def test_a_reward_on_finished_samples_does_not_steer(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    from reward_model_fixtures import TINY

    from penchant.reward_models.folders import Normalisation, RewardModelFolder, built, save

    about = RewardModelFolder(
        dimensions=(VQ,), pooling="special", backbone=TINY, normalisation=Normalisation(mean=(0.0,), std=(1.0,))
    )
    save(tmp_path / "model", built(TINY, (VQ,), "special", prompts=["a cat"]), about)
    with pytest.raises(ModelError, match="train-reward flow-nrg"):
        NoisedReward.load(tmp_path / "model", tiny("wan"))


def test_latents_are_encoded_once_for_all_runs(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    backbones = [network(tiny(name), LatentNetwork(channels=8)).backbone for name in ("stable-diffusion-3", "flux")]
    sample, file = spoilt(1)[0].candidates[0], tmp_path / "encodings.sqlite"
    made = {flip: Library(backbones[0], cache=file).prepared(sample, flip=flip) for flip in (False, True)}
    assert not torch.equal(made[False]["latents"], made[True]["latents"])
    # Another generator's latents are others.
    other = Library(backbones[1], cache=file).prepared(sample)
    assert not torch.equal(other["latents"], made[False]["latents"])
    again = copy.copy(backbones[0])
    again.prepare = None  # type: ignore[method-assign,assignment]
    kept = Library(again, cache=file)
    for flip, expected in made.items():
        found = kept.prepared(sample, flip=flip)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(TypeError):
        Library(again, cache=tmp_path / "other.sqlite").prepared(sample)


def test_what_is_cheap_to_make_is_not_kept_on_disk(tmp_path: Path) -> None:
    backbone = TINY.build([VQ], prompts=["a cat"], folder=None)
    Library(backbone, cache=tmp_path / "cache" / "encodings.sqlite").prepared(spoilt(1)[0].candidates[0])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["flow-nrg", "wan-flow-nrg"])
def test_the_recipes_are_written_and_read_back(name: str, tmp_path: Path) -> None:
    recipe = REWARDS[name]()
    (tmp_path / "reward.toml").write_text(to_toml(recipe))
    assert from_toml(tmp_path / "reward.toml", RewardRecipe) == recipe
    assert recipe.pooling == "mean"
    assert isinstance(recipe.loss, BradleyTerry)
