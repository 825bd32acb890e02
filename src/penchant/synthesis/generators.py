"""Generators: stages that draw samples of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from penchant.feedback.groups import Media
from penchant.feedback.objects import write_media
from penchant.models.spec import Policy
from penchant.synthesis.stages import Failure, Output, Row, Stage, Worker

Format = Literal["png", "webp"]


@final
@dataclass(frozen=True, kw_only=True)
class Pictures(Stage):
    """A text-to-image model that penchant can train, with its sampler settings. Two settings are two generators.

    Attributes:
        name: what the data set calls it.
        policy: the model, with an adapter if it has one.
        steps: denoising steps; None means the pipeline's own.
        guidance: guidance scale, 1 for none; None means the pipeline's own.
        format: how pictures are kept; WebP is lossy, at quality 90.
        batch_size: pictures drawn, and committed, together.
        timeout: seconds after which a batch counts as hanging.
        seconds: expected device seconds a picture, for `plan`.
    """

    name: str
    policy: Policy
    steps: int | None = None
    guidance: float | None = None
    format: Format = "png"
    batch_size: int = 16
    timeout: float = 1800.0
    seconds: float = 1.0

    version: ClassVar[int] = 1

    def addresses(self) -> tuple[str, ...]:
        """The model's folder, its adapter's, another VAE's."""
        named = (self.policy.path, self.policy.adapter, self.policy.vae_path)
        return tuple(address for address in named if address is not None)

    def load(self) -> Worker:
        """The loaded model, on a GPU where there is one."""
        from penchant.models import load
        from penchant.models.loading import quiet

        quiet()
        model = load(self.policy).to(device())

        def draw(prompts: list[str], seeds: list[int]) -> list[Any]:
            return model.generate(
                prompts, seeds=seeds, steps=self.steps, guidance=self.guidance, batch_size=len(prompts)
            )

        return _Painter(draw=draw, format=self.format)


@final
@dataclass(frozen=True, kw_only=True)
class Pipeline(Stage):
    """Any text-to-image pipeline of diffusers, whether penchant can train it or not (PixArt, Stable Cascade, ...).

    Attributes:
        name: what the data set calls it.
        path: a pipeline folder or hub id.
        call: what its call is given beside prompt and generators, e.g. (("num_inference_steps", 20),).
        dtype: type of weights and computation.
        variant: file variant, e.g. "fp16".
        format: how pictures are kept; WebP is lossy, at quality 90.
        batch_size: pictures drawn, and committed, together.
        timeout: seconds after which a batch counts as hanging.
        seconds: expected device seconds a picture, for `plan`.
    """

    name: str
    path: str
    call: tuple[tuple[str, int | float], ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    variant: str | None = None
    format: Format = "png"
    batch_size: int = 16
    timeout: float = 1800.0
    seconds: float = 1.0

    version: ClassVar[int] = 1

    def addresses(self) -> tuple[str, ...]:
        """The pipeline's folder."""
        return (self.path,)

    def load(self) -> Worker:
        """The loaded pipeline, on a GPU where there is one; weights are safetensors or it is refused."""
        import diffusers
        import torch

        from penchant.models.loading import locate, quiet

        quiet()
        options: dict[str, Any] = {"variant": self.variant} if self.variant is not None else {}
        # What draws from text: Stable Cascade's folder names its decoder alone, and this finds the whole.
        pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(
            locate(self.path), torch_dtype=getattr(torch, self.dtype), use_safetensors=True, **options
        ).to(device())
        pipeline.set_progress_bar_config(disable=True)

        def draw(prompts: list[str], seeds: list[int]) -> list[Any]:
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            with torch.no_grad():
                return pipeline(prompt=prompts, generator=generators, **dict(self.call)).images

        return _Painter(draw=draw, format=self.format)


def device() -> str:
    """A GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(kw_only=True)
class _Painter(Worker):
    draw: Callable[[list[str], list[int]], list[Any]] = field(repr=False)
    format: Format

    def run(self, rows: Sequence[Row], folder: Path) -> list[Output | Failure]:
        images = self.draw([row.prompt for row in rows], [row.seed for row in rows])
        outputs: list[Output | Failure] = []
        for image in images:
            media = Media.of(_encoded(image, self.format))
            write_media(folder, media)
            outputs.append({"sha256": media.sha256, "mime": media.mime})
        return outputs


def _encoded(image: Any, format: Format) -> bytes:
    out = BytesIO()
    if format == "webp":
        image.save(out, "WEBP", quality=90, method=6)
    else:
        image.save(out, "PNG")
    return out.getvalue()
