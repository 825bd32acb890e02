"""Rows and small steps that the model tests share."""

from __future__ import annotations

import inspect

import torch

RESOLUTION = 32


def rows(model, pictures, prompts=("a red cat", "two dogs", "")):
    """Noisy latents, times, condition and candidates of three rows, as a likelihood would hand them over."""
    encoded = model.encode_images(pictures, ids=[str(i) for i in range(len(pictures))])
    latents = encoded.pop("latents")
    flow = model.prediction == "velocity"
    time = torch.tensor([0.1, 0.5, 0.9]) if flow else torch.tensor([10, 500, 900])
    return latents, time, model.encode_prompts(list(prompts)), encoded


def train_a_little(model) -> None:
    """Move every trainable weight away from where it started, adapters' zero matrices included."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


class Recorder:
    """Writes down, by argument name, every call of a module and its answer."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.calls: list[tuple[dict, torch.Tensor]] = []
        self.signature = inspect.signature(type(module).forward)
        self.handle = module.register_forward_hook(self._write, with_kwargs=True)

    def _write(self, module, args, kwargs, output) -> None:
        given = self.signature.bind(module, *args, **kwargs).arguments
        del given["self"]
        self.calls.append(({k: v for k, v in given.items() if v is not None}, output[0]))


def assert_same_arguments(ours: dict, theirs: dict) -> None:
    assert set(theirs) - set(ours) <= {"joint_attention_kwargs"}  # an empty dictionary
    for name in set(ours) & set(theirs):
        mine, other = ours[name], theirs[name]
        if isinstance(mine, dict):
            assert_same_arguments(mine, other)
        elif isinstance(mine, tuple) and isinstance(mine[0], torch.Tensor):
            assert_same_arguments(dict(enumerate(mine)), dict(enumerate(other)))
        elif isinstance(mine, torch.Tensor):
            torch.testing.assert_close(mine.float(), other.float().expand(mine.shape), rtol=1e-6, atol=2e-6)
        else:
            assert mine == other, name
