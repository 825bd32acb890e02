"""Stock pipelines and schedulers of diffusers, steered: conventions against exact Gaussians, bits at scale 0."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_guidance import DEVIATION, DIRECTION, MEAN, Gaussian, Linear
from torch import Tensor
from torch.testing import assert_close

import penchant
from penchant.errors import ModelError
from penchant.sampling.guidance import RewardGuidance
from penchant.sampling.ode import Steering
from penchant.sampling.steering import STANDS, layout_of, steered
from penchant.testing import build

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _scheduler(name: str, **options: Any) -> Any:
    import diffusers

    return getattr(diffusers, name)(**options)


SCHEDULERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "flow euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "velocity"),
    "flow euler of mochi": ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "velocity"),
    "unipc on a flow": (
        "UniPCMultistepScheduler",
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
        "velocity",
    ),
    "unipc": ("UniPCMultistepScheduler", BETAS, "epsilon"),
    "dpm solver": ("DPMSolverMultistepScheduler", BETAS, "epsilon"),
    "deis": ("DEISMultistepScheduler", BETAS, "epsilon"),
    "pndm": ("PNDMScheduler", {**BETAS, "skip_prk_steps": True, "set_alpha_to_one": True}, "epsilon"),
    "ddim of cogvideox": (
        "CogVideoXDDIMScheduler",
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        "v_prediction",
    ),
    "ddim": ("DDIMScheduler", {**BETAS, "clip_sample": False, "timestep_spacing": "trailing"}, "epsilon"),
    "ddim on v": (
        "DDIMScheduler",
        {**BETAS, "clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
        "v_prediction",
    ),
    "euler": ("EulerDiscreteScheduler", BETAS, "epsilon"),
    "euler on v": ("EulerDiscreteScheduler", {**BETAS, "prediction_type": "v_prediction"}, "v_prediction"),
}


def walk(name: str, scale: float, *, count: int = 800, steps: int = 60) -> Tensor:
    """What a scheduler's own loop makes of a perfect denoiser, steered by the exact reward."""
    kind, options, quantity = SCHEDULERS[name]
    scheduler, model = _scheduler(kind, **options), Gaussian(quantity)
    if quantity != "velocity":
        model.alphas_cumprod = scheduler.alphas_cumprod.float()
    steering = Steering(reward=Linear(model), guidance=RewardGuidance(weights={"up": 1.0}, scale=scale))
    scheduler.set_timesteps(steps)
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    # The tilted law at the first step, in the scheduler's coordinates.
    stand = STANDS[kind](scheduler, scheduler.timesteps[0])
    mean, spread = MEAN + scale * DEVIATION**2 * DIRECTION, (stand.at.a**2 * DEVIATION**2 + stand.at.s**2) ** 0.5
    x = stand.scale * (stand.at.a * mean + spread * noise)
    with steered(SimpleNamespace(scheduler=scheduler), steering):
        for t in scheduler.timesteps:
            here = STANDS[kind](scheduler, t)
            output = here.sign * model.denoise(x / here.scale, torch.full((count,), here.at.time), {}, {})
            x = scheduler.step(output, t, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_steered_scheduler_draws_from_the_tilted_gaussian(name: str) -> None:
    drawn = walk(name, 0.8)
    bound = 5 * DEVIATION / len(drawn) ** 0.5
    assert_close(drawn.mean(0), MEAN + 0.8 * DEVIATION**2 * DIRECTION, atol=bound, rtol=0)
    assert_close(drawn.std(0), torch.full((3,), DEVIATION), atol=bound, rtol=0)


class Along:
    """r = c . x on latents of any shape, c fixed by the number of elements; notes what it was given."""

    dimensions, name = ("along",), "along"

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()
        self.conditions: set[tuple[int, ...]] = set()

    def direction(self, like: Tensor) -> Tensor:
        return torch.randn(like[0].numel(), generator=torch.Generator().manual_seed(3))

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Any) -> Tensor:
        self.shapes.add(tuple(noisy_N.shape))
        self.conditions |= {tuple(value.shape) for value in condition.values()}
        return (noisy_N.flatten(1) @ self.direction(noisy_N))[:, None]


FAMILIES = ("stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux", "wan", "ltx", "mochi", "cogvideox")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in loaded:
            folder = build(name, tmp_path_factory.mktemp("tiny") / name)
            loaded[name] = penchant.load(str(folder), **({"resolution": 32} if name == "flux" else {}))
        return loaded[name]

    return load


def latents(model: Any, **options: Any) -> Tensor:
    """What the stock pipeline draws for two prompts, in the layout of our adapter."""
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    options = {"generator": generators, "num_inference_steps": 3, **model.size_options(), **options}
    return model.sample_latents(["a red cat", "rain"], 3.0, {"output_type": "latent", **options})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_gives_its_own_bits_at_scale_zero_and_follows_the_reward_otherwise(
    tiny: Callable[[str], Any], family: str
) -> None:
    model, reward = tiny(family), Along()
    layout, condition, plain = layout_of(model), model.encode_prompts(["a red cat", "rain"]), latents(tiny(family))
    values = {}
    for scale in (-0.02, 0.0, 0.02):
        steering = Steering(reward=reward, guidance=RewardGuidance(weights={"along": 1.0}, scale=scale))
        with steered(model.pipeline, steering, condition=condition, layout=layout):
            drawn = latents(model)
        values[scale] = (drawn.float().flatten(1) @ reward.direction(drawn)).mean().item()
        if scale == 0:
            assert torch.equal(drawn, plain)
            assert not reward.shapes or len(reward.shapes) == 1
    assert values[-0.02] < values[0.0] < values[0.02]
    assert reward.shapes == {tuple(plain.shape)}
    assert reward.conditions == {tuple(value.shape) for value in condition.values()}
    assert torch.equal(latents(model), plain)


def test_the_pipelines_callback_goes_on(tiny: Callable[[str], Any]) -> None:
    model, seen = tiny("wan"), []

    def callback(pipeline: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(i)
        # A constraint of the user's: latents held in a range.
        return {"latents": tensors["latents"].clamp(-1, 1)}

    steering = Steering(reward=Along(), guidance=RewardGuidance(weights={"along": 1.0}))
    with steered(model.pipeline, steering):
        drawn = latents(model, callback_on_step_end=callback)
    assert seen == [0, 1, 2]
    assert drawn.abs().max() <= 1


def test_several_samples_a_prompt_share_its_condition(tiny: Callable[[str], Any]) -> None:
    model, reward = tiny("stable-diffusion-3"), Along()
    steering = Steering(reward=reward, guidance=RewardGuidance(weights={"along": 1.0}))
    condition = {"prompt": torch.tensor([[1.0], [2.0]])}
    with steered(model.pipeline, steering, condition=condition):
        model.pipeline(["a", "b"], num_images_per_prompt=2, num_inference_steps=2, output_type="latent")
    assert reward.conditions == {(4, 1)}
    with (
        steered(model.pipeline, steering, condition={"prompt": torch.ones(3, 1)}),
        pytest.raises(ModelError, match="evenly"),
    ):
        model.pipeline(["a", "b"], num_inference_steps=2, output_type="latent")


def test_the_scheduler_is_itself_again_even_after_a_fault(tiny: Callable[[str], Any]) -> None:
    scheduler = tiny("wan").pipeline.scheduler
    steering = Steering(reward=Along(), guidance=RewardGuidance(weights={"along": 1.0}))
    with pytest.raises(ZeroDivisionError), steered(tiny("wan").pipeline, steering):
        _ = 1 // ("step" not in vars(scheduler))
    assert "step" not in vars(scheduler)


def test_an_unknown_scheduler_is_refused() -> None:
    scheduler = _scheduler("KDPM2DiscreteScheduler")
    steering = Steering(reward=Along(), guidance=RewardGuidance(weights={"along": 1.0}))
    with pytest.raises(ModelError, match="KDPM2"), steered(SimpleNamespace(scheduler=scheduler), steering):
        pass
