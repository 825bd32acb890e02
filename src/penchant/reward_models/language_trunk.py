"""`LanguageTrunk`: reward models of texts on a causal language model's layers (MusicRL, arXiv 2402.04229, section 3.3).

A text is cut into excerpts (`excerpts.py`), the trunk reads each (`language_features.py`), and of each dimension:

- one that does not see the prompt: a small network on the features, its mean over the excerpts;
- one that sees it, `prompt="read"`: the same, where the prompt stands before the text as the language model reads it
  (MusicRL's preference model: caption and audio tokens);
- one that sees it, `prompt="compared"`: cos(text, prompt) of two towers, the trunk's and a small one of words, averaged
  over the excerpts (MusicRL's MuLan score). The text's tower never sees the prompt.

A frozen trunk is read from where it lies and is no part of the trained weights, and what it says of a text is kept in
memory; else the trunk trains from its checkpoint (the paper's preference model) and is saved with the rest.

Differs from the paper: its quality and MuLan models are networks of their own; here all judges share one trunk.

Shapes: N rows, L excerpts, F features, D dimensions, W width, E width of the two towers.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from penchant.errors import ModelError, RecipeError
from penchant.feedback.groups import Candidate, Prompt
from penchant.reward_models.excerpts import COUNT, Windows, excerpts
from penchant.reward_models.language_features import SURPRISES, Excerpt, features, rows_of
from penchant.reward_models.network import Backbone, BackboneSpec, Dimension, Tokens
from penchant.reward_models.words import PAD, Words

# raw = 10 cos - 5 at the start: SigLIP's scale (arXiv 2303.15343, section 3.2), its shift halved for few wrong samples.
SCALE, SHIFT = 10.0, -5.0
# Texts whose features are kept: kilobytes each.
_KEPT = 2**14
_ALONE, _AFTER = "alone/", "after the prompt/"


@dataclass(frozen=True, kw_only=True)
class LanguageTrunk(BackboneSpec):
    """A reward network on a language model; texts and `Completion`s are its samples.

    Attributes:
        generator: folder, hub id or `zoo:NAME` of a causal language model of transformers.
        layer: which hidden states: 0 the embeddings, i those after block i, None the last.
        frozen: only the small networks train; else the whole trunk does, too.
        windows: what is read of a text: all of it ("whole"), its thirds, its first and last two thirds, or nothing but
            the "first_third".
        prompt: how a dimension that sees the prompt does.
        width: W, units of the small network.
        embedding: E.
        vocabulary: tokens of the words' tokenizer, which is trained on the prompts; for "compared" alone.
        words: tokens of a prompt, the end included; longer prompts are cut.
    """

    reads: ClassVar[frozenset[Literal["media", "text"]]] = frozenset({"text"})
    cite: ClassVar[tuple[str, ...]] = ("cideron2024musicrl",)

    generator: str = "zoo:tunes"
    layer: int | None = None
    frozen: bool = True
    windows: Windows = "whole"
    prompt: Literal["compared", "read"] = "read"
    width: int = 96
    embedding: int = 32
    vocabulary: int = 320
    words: int = 24

    def build(self, dimensions: Sequence[Dimension], *, prompts: Sequence[str], folder: Path | None) -> Backbone:
        """Loads the generator.

        Raises:
            ModelError: it is no language model, or has no such layer.
            RecipeError: prompts are to be compared, and no dimension is there to do it.
        """
        if self.prompt == "compared" and not any(dimension.sees_prompt for dimension in dimensions):
            raise RecipeError(
                "no dimension is there to compare the prompt with.",
                field="backbone.prompt",
                remedy='set pooling to "special" and sees_prompt of a dimension, or prompt to "read".',
            )
        model = _generator(self.generator)
        blocks = int(model.bare.config.num_hidden_layers)
        if self.layer is not None and not 0 <= self.layer <= blocks:
            raise ModelError(
                f"has no layer {self.layer}.", file=self.generator, field="layer", remedy=f"use 0 to {blocks}, or None."
            )
        words = None
        if self.prompt == "compared":
            words = Words.train(prompts, self.vocabulary) if folder is None else Words.load(folder)
        return _Network(self, model, dimensions, words)


@lru_cache(maxsize=2)
def _generator(address: str) -> Any:
    """Never trained itself, so that one copy serves every network."""
    from penchant.models import load

    model = load(address)
    if model.modality != "text":
        raise ModelError("is no language model.", file=address, field="backbone.generator", remedy="give a causal one.")
    model.bare.requires_grad_(False)
    return model


@final
class _Network(Backbone):
    def __init__(self, spec: LanguageTrunk, model: Any, dimensions: Sequence[Dimension], words: Words | None) -> None:
        super().__init__()
        self.spec, self.words, self.width = spec, words, spec.width
        self.sees = [dimension.sees_prompt for dimension in dimensions]
        # The generator is no part of what trains, so it is hidden from PyTorch.
        self._generator = (model,)
        self.trunk = None if spec.frozen else copy.deepcopy(model.bare).requires_grad_(True)
        self.inside = int(model.bare.config.hidden_size)
        self.norms = nn.ModuleList(nn.LayerNorm(self.inside) for _ in range(2))
        count = 2 * self.inside + SURPRISES + COUNT[spec.windows]
        self.read = nn.Sequential(nn.Linear(count, spec.width), nn.SiLU()) if self._scores_features() else None
        if words is not None:
            E = spec.embedding
            self.tower = nn.Sequential(nn.Linear(count, spec.width), nn.SiLU(), nn.Linear(spec.width, E))
            self.embedding = nn.Embedding(len(words), E)
            self.caption = nn.Sequential(nn.Linear(E, E), nn.SiLU(), nn.Linear(E, E))
        self._kept: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def _scores_features(self) -> bool:
        return self.words is None or not all(self.sees)

    @property
    def model(self) -> Any:
        """The generator."""
        return self._generator[0]

    def begin(self, head: nn.Linear) -> None:
        """A compared dimension begins as 10 cos - 5."""
        if self.words is not None:
            start_W = torch.zeros(self.width)
            start_W[:2] = torch.tensor([SCALE, SHIFT])
            with torch.no_grad():
                head.weight[torch.tensor(self.sees)] = start_W

    def natural(self, head: nn.Linear) -> tuple[list[float], list[float]]:
        """Of a compared dimension the cosine, of any other the score as it is."""
        compared = [self.words is not None and sees for sees in self.sees]
        if not compared:
            return super().natural(head)
        rows = head.weight.detach().double().tolist()
        shift = [row[1] if own else 0.0 for row, own in zip(rows, compared, strict=True)]
        return shift, [row[0] if own else 1.0 for row, own in zip(rows, compared, strict=True)]

    def prepare(self, sample: Any) -> dict[str, Tensor]:
        """What a frozen trunk says of a text that it reads alone; else token ids, and how many each excerpt has.

        Raises:
            ModelError: the sample is no text.
        """
        text = sample if isinstance(sample, str) else getattr(sample, "text", None)
        if not isinstance(text, str):
            raise ModelError(f"{self.spec.generator} reads text, not a {type(sample).__name__}.", remedy="give texts.")
        rows = [self._ids(part) for part in excerpts(text, self.spec.windows)]
        made = {
            "ids": torch.tensor([i for row in rows for i in row]).long(),
            "lengths": torch.tensor([*map(len, rows)]),
        }
        return {"features": self._seen(self._excerpts(made, None))} if self._keeps() else made

    def preparation(self) -> str | None:
        """The trunk and how it is read, where `prepare` asks it."""
        if not self._keeps():
            return None
        model = self.model
        return f"{model.fingerprint()} {model.encoder_fingerprint()} {self.spec.layer} {self.spec.windows}"

    def _keeps(self) -> bool:
        return self.spec.frozen and not self._after()

    def _ids(self, text: str) -> list[int]:
        return list(self.model.tokenizer(text, add_special_tokens=False)["input_ids"])

    def collate(self, prompts: Sequence[str], prepared: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Features of a frozen trunk, else its tokens; word ids of the prompts where they are compared."""
        rows: dict[str, Tensor] = {}
        for start, asked in self._readings(prompts).items():
            if self._keeps():
                rows[start] = torch.stack([p["features"] for p in prepared])
                continue
            cut = [self._excerpts(p, prompt) for p, prompt in zip(prepared, asked, strict=True)]
            if self.spec.frozen:
                rows[start] = torch.stack([self._seen(parts) for parts in cut])
            else:
                tensors = rows_of([part for parts in cut for part in parts])
                rows |= {start + name: value.reshape(len(cut), -1, *value.shape[1:]) for name, value in tensors.items()}
        return rows if self.words is None else rows | {"words": self.words.ids(prompts, self.spec.words)}

    def _readings(self, prompts: Sequence[str]) -> dict[str, Sequence[str | None]]:
        """How the trunk reads the texts: alone, after their prompts, or both, as the dimensions ask."""
        alone = self.words is not None or not all(self.sees or [True])
        return ({_ALONE: [None] * len(prompts)} if alone else {}) | ({_AFTER: prompts} if self._after() else {})

    def _after(self) -> bool:
        return self.words is None and (any(self.sees) or not self.sees)

    def _excerpts(self, prepared: Mapping[str, Tensor], prompt: str | None) -> list[Excerpt]:
        parts = prepared["ids"].split(prepared["lengths"].tolist())
        before = self._before(prompt)
        room = (getattr(self.model.bare.config, "max_position_embeddings", None) or 10**9) - len(before)
        reaches = self.spec.windows != "first_third"
        return [
            Excerpt(before=before, tokens=tuple(part.tolist()[:room]), ends=reaches and i == len(parts) - 1)
            for i, part in enumerate(parts)
        ]

    def _before(self, prompt: str | None) -> tuple[int, ...]:
        if prompt is not None:
            return tuple(self.model.prompt_tokens(Prompt(text=prompt)))
        first = self.model.tokenizer.bos_token_id
        return (first if first is not None else min(self.model.end_ids),)

    @property
    def _end(self) -> int:
        return int(self.model.completion_tokens(Candidate(text=""))[-1])

    def _seen(self, parts: Sequence[Excerpt]) -> Float[Tensor, "L F"]:
        """What the frozen trunk says of one text; by itself, so that it is the same bits in any batch and order."""
        key = tuple((part.before, part.tokens) for part in parts)
        if key not in self._kept:
            with torch.no_grad():
                seen = features(self.model.bare, rows_of(parts), end=self._end, layer=self.spec.layer)
            self._kept[key] = seen
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def forward(self, rows: Mapping[str, Tensor]) -> Tokens:
        seen = {start: self._features(rows, start) for start in (_ALONE, _AFTER) if self._holds(rows, start)}
        if not self.sees:
            assert self.read is not None
            state_NLW = self.read(seen[_AFTER])
        else:
            state_NLW = torch.stack([self._state(rows, seen, sees) for sees in self.sees], 1)
        N, L = state_NLW.shape[:2]
        ones_NL = torch.ones(N, L, dtype=torch.bool, device=state_NLW.device)
        places = torch.arange(len(self.sees), device=state_NLW.device).expand(N, -1)
        return Tokens(state_NLW=state_NLW, mask_NL=ones_NL, place_ND=places)

    def _holds(self, rows: Mapping[str, Tensor], start: str) -> bool:
        return any(name.startswith(start) for name in rows)

    def _features(self, rows: Mapping[str, Tensor], start: str) -> Float[Tensor, "N L F"]:
        """The features, of even scale, and which excerpt they are of."""
        if self.trunk is None:
            raw_NLF = rows[start]
        else:
            own = {name.removeprefix(start): value for name, value in rows.items() if name.startswith(start)}
            N, L = own["start"].shape
            flat = {name: value.reshape(N * L, *value.shape[2:]) for name, value in own.items()}
            raw_NLF = features(self.trunk, flat, end=self._end, layer=self.spec.layer).reshape(N, L, -1)
        states = raw_NLF[..., : 2 * self.inside].split(self.inside, -1)
        which_LL = torch.eye(raw_NLF.shape[1], device=raw_NLF.device).expand(len(raw_NLF), -1, -1)
        even = [norm(state) for norm, state in zip(self.norms, states, strict=True)]
        return torch.cat([*even, raw_NLF[..., 2 * self.inside :], which_LL], -1)

    def _state(self, rows: Mapping[str, Tensor], seen: Mapping[str, Tensor], sees: bool) -> Float[Tensor, "N W"]:
        if sees and self.words is not None:
            return self._compared(seen[_ALONE], rows["words"])
        assert self.read is not None
        return self.read(seen[_AFTER if sees else _ALONE]).mean(1)

    def _compared(self, seen_NLF: Tensor, words_NT: Tensor) -> Float[Tensor, "N W"]:
        """(cos, 1, 0, ...): the mean over the excerpts of their cosines with the prompt."""
        there_NT1 = (words_NT != PAD)[..., None]
        said_NE = self.caption((self.embedding(words_NT) * there_NT1).sum(1) / there_NT1.sum(1))
        cosine_N = nn.functional.cosine_similarity(self.tower(seen_NLF), said_NE[:, None], dim=-1).mean(1)
        rest_NW = torch.zeros(len(cosine_N), self.width - 2, device=cosine_N.device)
        return torch.cat([cosine_N[:, None], torch.ones_like(cosine_N)[:, None], rest_NW], 1)

    def keep(self, folder: Path) -> None:
        """The words' tokenizer; the generator keeps its own."""
        if self.words is not None:
            self.words.save(folder)
