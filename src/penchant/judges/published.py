"""What the adapters of published reward models share: reading their files, and CLIP towers on pictures and captions.

Weights are read from safetensors, or from a `.pt`, `.pth` or `.bin` file with `torch.load(..., weights_only=True)`.
A file that needs the full unpickler is refused, because unpickling can run any code.
Shapes: N samples, F features.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.judges import looking

CHUNK = 32
_REMEDY = "give a file or folder of this machine, or leave the path out where the hub can be reached."


def device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pretrained(loader: Any, address: str, **options: Any) -> Any:
    """`loader.from_pretrained(address)`, where `loader` is a class of transformers.

    Raises:
        ModelError: there is nothing at `address` that `loader` reads.
    """
    try:
        return loader.from_pretrained(address, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{loader.__name__} cannot be read: {reason}", file=address, remedy=_REMEDY) from error


def image_processor(address: str) -> Any:
    """The folder's image processor on PIL, so that pixels do not depend on whether torchvision is installed."""
    import transformers

    return pretrained(transformers.AutoImageProcessor, address, backend="pil")


def checkpoint(path: str | None, *, repository: str, name: str, inputs: str) -> tuple[Path, str]:
    """A published checkpoint and the address of the configuration, tokenizer and image processor that belong to it.

    Args:
        path: the file, or a folder that holds it as `name`, or None for `repository` on the hub.
        inputs: address to fall back on where no `config.json` lies beside the file.

    Raises:
        ModelError: there is no such file, or the hub cannot be reached.
    """
    if path is None:
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(repository, name)), inputs
        except (OSError, ValueError) as error:
            raise ModelError(f"'{name}' cannot be fetched from the hub.", file=repository, remedy=_REMEDY) from error
    file = Path(path) / name if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ModelError("there is no such checkpoint.", file=file, remedy=f"give the file or folder of '{name}'.")
    return file, str(file.parent) if (file.parent / "config.json").exists() else inputs


def tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch file of plain tensors, by name, on the CPU.

    Raises:
        ModelError: the file is damaged, or holds pickled objects.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        # The aesthetic head was saved on a GPU: without map_location it does not load elsewhere.
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError) as error:
        remedy = "where you trust it, save its state_dict() as safetensors and give that file."
        raise ModelError("is damaged, or holds more than tensors.", file=file, remedy=remedy) from error
    return dict(loaded.get("state_dict", loaded))


def fill(module: nn.Module, state: Mapping[str, Tensor], *, file: Path) -> None:
    """Copies `state` into `module`, every name and shape exactly.

    Raises:
        ModelError: a name or a shape differs.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        problem = f"does not fit a {type(module).__name__}: {' '.join(str(error).split())[:300]}"
        raise ModelError(problem, file=file, remedy="give the published file, and the configuration it has.") from error


def linear_head(state: Mapping[str, Tensor], *, prefix: str, width: int, file: Path) -> nn.Sequential:
    """The layers `PREFIX.0.weight, PREFIX.2.weight, ...` in the order of their numbers, nothing between them.

    The heads of improved-aesthetic-predictor and of ImageReward: their activations are commented out by the authors,
    and the dropout between the layers is the identity outside training.

    Raises:
        ModelError: there are no such layers, or the first does not take `width` features.
    """
    found = [re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.weight", name) for name in state]
    head = nn.Sequential()
    for number in sorted(int(match[1]) for match in found if match):
        weight, bias = state[f"{prefix}.{number}.weight"], state[f"{prefix}.{number}.bias"]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        head.append(layer)
    takes = head[0].in_features if len(head) else None
    if takes != width:
        problem = f"its head takes {takes} features, the model gives {width}."
        raise ModelError(problem, file=file, remedy="give the head and the model that were published together.")
    return head.to(device()).eval().requires_grad_(False)


def pixels(processor: Any, pictures: Sequence[Image.Image]) -> Float[Tensor, "N 3 H W"]:
    """Pictures as the model takes them, on its device."""
    prepared = processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")
    return prepared["pixel_values"].to(device())


def in_chunks(function: Callable[..., Tensor], *columns: Any, size: int = CHUNK) -> np.ndarray:
    """`function` of at most `size` rows of the columns at a time, without gradients, joined."""
    with torch.no_grad():
        starts = range(0, len(columns[0]), size)
        parts = [function(*(column[start : start + size] for column in columns)) for start in starts]
        return torch.cat(parts).float().cpu().numpy()


@final
class Clip:
    """A CLIPModel of transformers with its tokenizer and image processor: unit features of pictures and captions."""

    def __init__(self, model: Any, *, inputs: str) -> None:
        """
        Args:
            model: the CLIPModel.
            inputs: folder or hub address of the tokenizer and the image processor.
        """
        import transformers

        self.model = model.to(device()).eval().requires_grad_(False)
        self.tokenizer = pretrained(transformers.AutoTokenizer, inputs)
        self.processor = image_processor(inputs)

    @classmethod
    def load(cls, address: str, *, inputs: str | None = None) -> Clip:
        """The CLIPModel at `address`.

        Args:
            inputs: where tokenizer and image processor lie if the folder at `address` has none.

        Raises:
            ModelError: there is no CLIPModel at `address`.
        """
        import transformers

        model, report = pretrained(transformers.CLIPModel, address, dtype=torch.float32, output_loading_info=True)
        if report["missing_keys"]:
            # transformers would go on with random weights in their place.
            missing = sorted(report["missing_keys"])[0]
            raise ModelError(f"is no CLIPModel: it has no '{missing}'.", file=address, remedy=_REMEDY)
        alone = inputs is None or (Path(address) / "preprocessor_config.json").exists()
        return cls(model, inputs=address if alone else str(inputs))

    @classmethod
    def built(cls, state: Mapping[str, Tensor], *, inputs: str, file: Path) -> Clip:
        """The CLIPModel of the configuration at `inputs`, filled with `state`, which was read from `file`."""
        import transformers

        model = transformers.CLIPModel(pretrained(transformers.CLIPConfig, inputs))
        fill(model, state, file=file)
        return cls(model, inputs=inputs)

    def features(self, pictures: Sequence[Image.Image]) -> Float[np.ndarray, "N F"]:
        """Unit features of pictures."""
        return in_chunks(self._of_pictures, pictures)

    def text_features(self, captions: Sequence[str]) -> Float[np.ndarray, "N F"]:
        """Unit features of captions; one that stands several times is read once."""
        unique = list(dict.fromkeys(captions))
        rows = in_chunks(self._of_captions, unique)
        place = {caption: row for row, caption in enumerate(unique)}
        return rows[[place[caption] for caption in captions]]

    def cosine(self, captions: Sequence[str], pictures: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Cosine of each (caption, picture)."""
        return (self.text_features(captions) * self.features(pictures)).sum(-1, keepdims=True)

    def look(self, captions: Sequence[str], pixels: looking.Pixels) -> Float[Tensor, " N"]:
        """Cosine of each (caption, picture), differentiable in the pixels in [0, 1]."""
        seen = self.seen(pixels)
        return (torch.from_numpy(self.text_features(captions)).to(seen) * seen).sum(-1)

    def seen(self, pixels: looking.Pixels) -> Float[Tensor, "N F"]:
        """Unit features of pixels in [0, 1], differentiable."""
        return self._of_pixels(looking.prepared(self.processor, pixels).to(device()))

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Token numbers [N, T], padded to the length of the text tower; padding changes nothing before it."""
        length = self.model.config.text_config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
        return self.tokenizer(list(captions), **options)["input_ids"].to(device())

    def _of_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        return self._of_pixels(pixels(self.processor, pictures))

    def _of_pixels(self, values: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=values)[1]
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def _of_captions(self, captions: Sequence[str]) -> Tensor:
        # The text tower is causal and pooled at the end token: no mask is needed for what stands after it.
        return F.normalize(
            self.model.text_projection(self.model.text_model(input_ids=self.tokens(captions))[1]), dim=-1
        )
