"""Stable Audio Open: a diffusion transformer in v-prediction on a cosine schedule (arXiv 2407.14358).

    x_t = a x0 + s eps,   a = cos(pi t / 2),   s = sin(pi t / 2),   v = a eps - s x0,   t in (0, 1]

The folder's scheduler walks sigma = s / a instead, scales its sample by c_in = 1 / sqrt(sigma^2 + 1) = a and tells the
transformer atan(sigma) * 2 / pi: with sigma = tan(pi t / 2) that is a x0 + s eps and t, and its c_skip and c_out are
a^2 and -s. So the transformer is given our own x_t and t, and answers our own v. This is derived from diffusers'
scheduler and compared with it; the trainer itself (stable-audio-tools) was not at hand.

Where we differ:

1. Time is discrete, t_i = (i + 1) / 1000 for the timesteps i = 0 .. 999 of `Diffusion`: the last is pure noise, where
   v-prediction is -x0 and well defined. The original draws t from the whole interval.
2. Samples are drawn along the ODE by DDIM without noise, on evenly spaced timesteps from the last one. The folder's
   solver is stochastic, walks sigma from 500 to 0.3 and needs the package torchsde, without which diffusers cannot even
   load it. A saved folder keeps its configuration.
3. The conditions' projection (text, seconds) is frozen with the text encoder; their training had it learn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError
from penchant.likelihoods import gaussian
from penchant.models import lora
from penchant.models.process import Process
from penchant.models.sound import SoundModel

TRAIN_STEPS = 1000
STEPS, GUIDANCE = 100, 7.0
"""Defaults of the pipeline's call."""

SCHEDULER = {
    "_class_name": "CosineDPMSolverMultistepScheduler",
    "prediction_type": "v_prediction",
    "sigma_data": 1.0,
    "sigma_max": 500,
    "sigma_min": 0.3,
}
"""That of Stable Audio Open, for folders that are made here."""


@final
class StableAudio(SoundModel):
    """Condition: "prompt_embeds" [N, P + 2, D], the text and two tokens of start and end in seconds; "duration"
    [N, 1, 2 D], the same two, which stay when the prompt is dropped.
    """

    def denoiser(self) -> Any:
        return lora.adaptable(self.pipeline.transformer)

    def native_samples(self) -> int:
        return self.pipeline.transformer.config.sample_size * self.pipeline.vae.hop_length

    def audio(self) -> tuple[int, int]:
        config = self.pipeline.vae.config
        return config.sampling_rate, config.audio_channels

    def process(self) -> Process:
        config = scheduler_config(self.pipeline)
        prediction, data = config.get("prediction_type", "v_prediction"), config.get("sigma_data", 1.0)
        if prediction != "v_prediction" or data != 1.0:
            raise ModelError(
                f"predicts {prediction} of data with a deviation of {data}.",
                field="scheduler",
                remedy="use a model with prediction_type='v_prediction' and sigma_data=1.0.",
            )
        return Process(prediction="v_prediction", alphas_cumprod=cosine_powers())

    def sampler(self) -> str:
        return "DDIM without noise on the cosine schedule"

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds = self.pipeline.encode_prompt(list(prompts), self.device, False)
        span = self.pipeline.encode_duration(0.0, self.seconds, self.device, False, len(prompts))
        return {"prompt_embeds": torch.cat([embeds, *span], 1), "duration": torch.cat(span, 2)}

    def empty_condition(self) -> dict[str, Tensor]:
        # The pipeline guides away from zeros, not from an encoded empty text; the duration is no prompt and stays.
        return {"prompt_embeds": torch.zeros_like(self.encode_prompts([""])["prompt_embeds"])}

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        embeds, duration = self.cast(condition, "prompt_embeds", "duration")
        with self.precision():
            output = self.module(
                hidden_states=noisy_N.to(self.device, self.input_dtype),
                timestep=(time_N.to(self.device, torch.float32) + 1) / TRAIN_STEPS,
                encoder_hidden_states=embeds,
                global_hidden_states=duration,
                rotary_embedding=self._rotary(noisy_N.shape[-1] + duration.shape[1]),
                return_dict=False,
            )[0]
        return output.float()

    def _rotary(self, positions: int) -> tuple[Tensor, Tensor]:
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        cos, sin = get_1d_rotary_pos_embed(
            self.pipeline.rotary_embed_dim, positions, use_real=True, repeat_interleave_real=False
        )
        return cos.to(self.device), sin.to(self.device)

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        guidance, steps = GUIDANCE if guidance is None else guidance, options.get("num_inference_steps", STEPS)
        condition, empty = self.encode_prompts(prompts), self.unconditional()
        config = self.pipeline.transformer.config
        shape = (1, config.in_channels, config.sample_size)
        latents = torch.cat([torch.randn(shape, generator=g) for g in options["generator"]]).to(self.device)
        for (time, a, s), (_, next_a, next_s) in pairwise(_walk(steps)):
            time_N = torch.full((len(prompts),), time, device=self.device)
            prediction = self.denoise(latents, time_N, condition, {})
            if guidance != 1.0:
                null = {name: value.expand_as(condition[name]) for name, value in empty.items()}
                without = self.denoise(latents, time_N, {**condition, **null}, {})
                prediction = without + guidance * (prediction - without)
            spots = latents.new_tensor(a), latents.new_tensor(s)
            x0, eps = gaussian.to_data_and_noise(prediction, latents, *spots, "v_prediction")
            latents = next_a * x0 + next_s * eps
        return latents

    def keep_size(self, folder: Path) -> None:
        """Write the scheduler's configuration too, where diffusers could not load it."""
        if self.pipeline.scheduler is None:
            write_scheduler(folder, scheduler_config(self.pipeline))


def cosine_powers() -> Float[Tensor, " steps"]:
    """Signal power cos^2(pi t / 2) at t_i = (i + 1) / 1000, in float64; the last is exactly 0."""
    times = torch.arange(1, TRAIN_STEPS + 1, dtype=torch.float64) / TRAIN_STEPS
    powers = (times * math.pi / 2).cos().square()
    powers[-1] = 0
    return powers


def _walk(steps: int) -> list[tuple[int, float, float]]:
    """(timestep, a, s) from noise to data, evenly spaced from the last timestep on; then data itself.

    Raises:
        ModelError: no step, or more than the schedule has.
    """
    if not 1 <= steps <= TRAIN_STEPS:
        raise ModelError(f"{steps} steps cannot be taken.", field="steps", remedy=f"use 1 to {TRAIN_STEPS}.")
    indices = (torch.arange(steps, 0, -1, dtype=torch.float64) * TRAIN_STEPS / steps).round().long() - 1
    a, s = gaussian.ddpm_coefficients(cosine_powers(), indices)
    return [*zip(indices.tolist(), a.tolist(), s.tolist(), strict=True), (0, 1.0, 0.0)]


def scheduler_config(pipeline: Any) -> dict[str, Any]:
    """The configuration of the pipeline's scheduler, read from its folder where diffusers cannot load it."""
    if pipeline.scheduler is not None:
        return dict(pipeline.scheduler.config)
    source = pipeline.config.get("_name_or_path")
    if not source:
        return dict(SCHEDULER)
    from diffusers import DDIMScheduler

    try:
        # Any scheduler's class reads the configuration of any other.
        found = DDIMScheduler.load_config(source, subfolder="scheduler")
    except OSError as error:
        raise ModelError("has no scheduler_config.json.", file=source, field="scheduler") from error
    return {name: value for name, value in found.items() if name != "_name_or_path"}


def write_scheduler(folder: Path, config: Mapping[str, Any]) -> None:
    """Put a scheduler's configuration into a saved pipeline that has none."""
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(config), indent=2, sort_keys=True))
    file = folder / "model_index.json"
    index = json.loads(file.read_text())
    index["scheduler"] = ["diffusers", config["_class_name"]]
    file.write_text(json.dumps(index, indent=2) + "\n")
