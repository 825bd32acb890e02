"""How well a picture shows the words that its prompt quotes: OCR and an edit distance. Needs `rapidocr`.

Differences from the reward of Flow-GRPO (arXiv:2505.05470, "Visual Text Rendering"; `flow_grpo/ocr.py`):
1. PP-OCRv6 (small) of rapidocr reads, not PaddleOCR.
2. With `detect=False` only the line recogniser runs.
3. Words around the target cost as insertions; the authors' code forgives them wherever the target is contained.
4. Several quotations are joined, and a prompt without any is the target as a whole; the authors take the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from penchant.judges.base import Judge
from penchant.judges.packages import needed, version

# Straight single quotes count only outside words, or every apostrophe would open a quotation.
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|‘([^’]+)’|«([^»]+)»|(?<!\w)\'([^\']+)\'(?!\w)')


def quoted(prompt: str) -> str:
    """What the prompt quotes, several quotations joined by a space; the whole prompt if it quotes nothing.

    >>> quoted('a shop sign that says "OPEN"')
    'OPEN'
    """
    found = ["".join(groups) for groups in _QUOTED.findall(prompt)]
    return " ".join(found) if found else prompt


def similarity(read: str, target: str) -> float:
    """`max(0, 1 - distance / len(target))` with the Levenshtein distance, both without spaces and case.

    >>> similarity("OPEM", "open")
    0.75
    """
    a, b = ("".join(text.split()).casefold() for text in (read, target))
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        above, row = row, [i]
        for j, right in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return max(0.0, 1 - row[-1] / max(len(b), 1))


@final
class TextRendering(Judge):
    """Similarity, in [0, 1], of the text a picture shows to the text its prompt quotes.

    Lines of text are found first. With `detect=False` the picture is read as one line that fills it, about eight times
    as fast: right for cropped words and banners, wrong for several lines or for words in a scene.
    Source: Flow-GRPO, arXiv:2505.05470; PP-OCRv6 weights (Apache-2.0) of github.com/PaddlePaddle/PaddleOCR.
    """

    name, dimensions = "rapidocr", ("text",)

    def __init__(self, path: str | None = None, *, detect: bool = True) -> None:
        """
        Args:
            path: another recogniser as an ONNX file that holds its characters; None is the package's own.
            detect: find lines of text first, and read them from top to bottom.

        Raises:
            ModelError: the package is missing, or there is no file at `path`.
        """
        package = needed("rapidocr", install="rapidocr onnxruntime")
        needed("onnxruntime", install="onnxruntime")
        self.version = version("rapidocr", None if path is None else Path(path)) + (" detect" if detect else "")
        self.detect = detect
        # ONNX Runtime would take every core and ignores OMP_NUM_THREADS, which torch obeys.
        threads = {"EngineConfig.onnxruntime.intra_op_num_threads": torch.get_num_threads()}
        weights = {} if path is None else {"Rec.model_path": path}
        self.reader = package.RapidOCR(params={"Global.log_level": "error", **threads, **weights})

    def read(self, picture: Image.Image) -> str:
        """The text in the picture, lines joined by a space; empty if there is none."""
        # rapidocr's arrays are BGR, as OpenCV's are.
        pixels = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
        found = self.reader(pixels, use_det=self.detect, use_cls=False, use_rec=True)
        return " ".join(found.txts or ())

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Similarity of what each picture shows to what its prompt quotes."""
        pairs = zip(prompts, samples, strict=True)
        return np.array([similarity(self.read(sample), quoted(prompt)) for prompt, sample in pairs]).reshape(-1, 1)
