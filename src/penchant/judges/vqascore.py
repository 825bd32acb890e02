"""VQAScore: the probability that a model of pictures and questions answers "Yes, the picture shows this".

The authors' best model, `clip-flant5-xxl`, is a class of their own and none of transformers. The default here is the
open alternative of their paper that transformers has: InstructBLIP on FlanT5-XXL.

Differences from the authors' code:
1. `InstructBlipProcessor` scales pictures to a square; their `instructblip_model.py` scales the shorter side and crops.
   Square pictures are the same. Questions are not cut to 128 tokens.
2. Decoder-only models are asked the paper's question. `qwen2vl_model.py` and `paligemma_model.py` of the current
   version write "Yes or No" with capitals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from penchant.judges.base import Judge
from penchant.judges.published import device, in_chunks, pretrained

# Question and answer: the paper's, and those of `instructblip_model.py`.
_PAPER = ('Does this figure show "{}"? Please answer yes or no.', "Yes")
_WORDING = {"instructblip": ('Question: Does this figure show "{}"? Please answer yes or no.', "yes")}
_CHUNK = 8  # these models have billions of parameters


@final
class VQAScore(Judge):
    """`P("Yes" | picture, 'Does this figure show "{caption}"? Please answer yes or no.')`, in [0, 1].

    With an encoder-decoder (FlanT5) the answer's tokens are "yes" and the end token, and the score is the geometric
    mean of their probabilities: `exp(-mean cross-entropy)` in the authors' code. With a decoder-only model it is the
    probability that the answer begins with the first token of "Yes".
    Source: arXiv:2404.01291; `t2v_metrics/models/vqascore_models/clip_t5_model.py` and
    `instructblip_model.py` of linzhiqiu/t2v_metrics (until commit 74c7208, which removes both).
    """

    name, version, dimensions = "vqascore", "1", ("alignment",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: folder or hub address of an image-text-to-text model of transformers with its processor; None is
                `Salesforce/instructblip-flan-t5-xxl`. It runs in bfloat16 on a GPU, as the authors do.

        Raises:
            ModelError: there is no such model at `path`.
        """
        import transformers

        address = path or "Salesforce/instructblip-flan-t5-xxl"
        dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
        model = pretrained(transformers.AutoModelForImageTextToText, address, dtype=dtype)
        self.model: Any = model.to(device()).eval()
        self.processor: Any = pretrained(transformers.AutoProcessor, address)
        # The last token that counts is found from the left; causal attention never looks at padding on the right.
        self.processor.tokenizer.padding_side = "right"
        config = self.model.config
        self.question, self.answer = _WORDING.get(config.model_type, _PAPER)
        encoder_decoder = getattr(config, "is_encoder_decoder", False)
        decoder_only = getattr(config, "use_decoder_only_language_model", not encoder_decoder)
        self._answers = self._next_token if decoder_only else self._whole_answer

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Probability of "Yes" for each (prompt, picture)."""
        return in_chunks(self._probabilities, prompts, samples, size=_CHUNK)

    def _probabilities(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[Tensor, "N 1"]:
        questions = [self._dressed(self.question.format(prompt)) for prompt in prompts]
        pictures = [picture.convert("RGB") for picture in samples]
        inputs = self.processor(images=pictures, text=questions, padding=True, return_tensors="pt").to(device())
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return self._answers(inputs).unsqueeze(-1)

    def _dressed(self, question: str) -> str:
        """The question as the model was trained to be asked: in its chat template, if it has one."""
        if not self.processor.chat_template:
            return question
        content = [{"type": "image"}, {"type": "text", "text": question}]
        talk = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)

    def _whole_answer(self, inputs: Any) -> Float[Tensor, " N"]:
        ids = self.processor.tokenizer(self.answer, return_tensors="pt").input_ids.to(device())
        labels_NT = ids.repeat(len(inputs["pixel_values"]), 1)
        log_probs = self.model(**inputs, labels=labels_NT).logits.float().log_softmax(-1)
        return log_probs.gather(-1, labels_NT.unsqueeze(-1)).squeeze(-1).mean(-1).exp()

    def _next_token(self, inputs: Any) -> Float[Tensor, " N"]:
        token = self.processor.tokenizer(self.answer, add_special_tokens=False).input_ids[0]
        logits = self.model(**inputs).logits
        last = inputs["attention_mask"].sum(-1) - 1
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, last].float().softmax(-1)[:, token]
