"""`MusicGen`: what transformers' `MusicgenForConditionalGeneration` is to the rest of the house (arXiv 2306.05284).

A candidate is the delayed grid of its codes (`delay.py`): "tokens" [Kq, T] with "length" T = N + max(delay). One step
of a likelihood is one column, and its log-prob the sum over the codes said there; so a sound of N frames is scored as
a text of T tokens is, by the same likelihood and the same objectives.

Which policy is aligned: by default the conditional branch alone, at all codes. Guidance may be made part of the policy
(`Policy.guidance`), at twice the cost of every pass; deployment may use it either way, and top-k.

Text encoder, its projection and codec are frozen; the decoder trains, without dropout. Sounds have a fixed length, as
the model knows no end.

Where we differ from audiocraft's training: it trains the projection of the text's states too, and drops a tenth of the
decoder's activations. Ten percent of texts are dropped there, which is an option here
(`Autoregressive(caption_dropout=0.1)`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.groups import Candidate, Prompt
from penchant.feedback.sound import Sound
from penchant.likelihoods.randomness import generator
from penchant.models import delay, lora
from penchant.models.codecs import codec_of, kept_codes
from penchant.models.completion import Decoding
from penchant.models.fingerprint import fingerprint
from penchant.models.music_decoding import DrawnCodes, MusicDecoding, draw_codes
from penchant.models.music_scoring import CodeLogits, MusicScoring, MusicValue, silent_of, without_dropout
from penchant.models.spec import Policy
from penchant.models.token_model import TokenModel, digest
from penchant.types import Asked, CandidateBatch, Rollout, TokenScores

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""Every linear layer of the decoder but the heads."""

SECONDS = 30.0
"""What the published models were trained on."""


class MusicGen(TokenModel):
    """A loaded MusicGen.

    Attributes:
        whole: the transformers model.
        bare: its decoder, which trains.
        module: what scoring calls: `MusicScoring`, or the distributed wrapper that a loop puts around it.
        tokenizer: of the text encoder.
        spec: the `Policy` it was loaded from.
        codec: EnCodec with as many codebooks as the decoder says.
        waits: delay of each codebook, in columns.
        frames: frames of every sound.
        has_adapters: whether a LoRA adapter trains.
        cut: how many prompts and sounds were longer than the policy allows, and lost the rest, and how many sounds
            were shorter.
    """

    modality: ClassVar[str] = "sound"
    null_prompt: ClassVar[bool] = True
    follows_masks = False

    def __init__(self, model: Any, tokenizer: Any, spec: Policy) -> None:
        self.whole = model.eval().requires_grad_(False)
        without_dropout(model)
        super().__init__(model.decoder.requires_grad_(True), tokenizer, spec)
        for part in (model.text_encoder, self._projection()):
            part.to(self.compute_dtype)
        config = self.bare.config
        self.waits = delay.delays(config.num_codebooks, channels=config.audio_channels)
        levels = config.num_codebooks // config.audio_channels
        self.codec = codec_of(model.audio_encoder, levels=levels, channels=config.audio_channels)
        self.frames = self._frames()
        if self.frames < max(self.waits):
            raise ModelError(
                f"{self.frames} frames are fewer than the last codebook waits.",
                field="seconds",
                remedy=f"use {max(self.waits) / self.codec.frame_rate:g} or more.",
            )
        self.cut = {"prompts": 0, "long": 0, "short": 0}

    def _frames(self) -> int:
        if self.spec.seconds is not None:
            return round(self.spec.seconds * self.codec.frame_rate)
        longest = self.whole.generation_config.max_length
        if longest is None:
            return round(SECONDS * self.codec.frame_rate)
        # One column before the first code, and one a delay behind the last frame.
        return int(longest) - 1 - max(self.waits)

    def _projection(self) -> nn.Module:
        """From the text's states to the decoder's width, where the two differ."""
        return getattr(self.whole, "enc_to_dec_proj", None) or nn.Identity()

    def _scoring_of(self, bare: Any) -> MusicScoring:
        return MusicScoring(bare)

    def _value_of(self, bare: Any) -> MusicValue:
        return MusicValue(bare)

    def _lora_targets(self) -> tuple[str, ...]:
        return LORA_TARGETS

    def _settings(self) -> tuple[float | None]:
        return (self.spec.guidance,)

    def to(self, device: torch.device | str) -> Self:
        """Moves the model, in place."""
        self.whole.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Writes an ordinary peft folder that `model.decoder.load_adapter` reads, or, when all weights train, an
        ordinary transformers folder.
        """
        if self.has_adapters:
            self.bare.save_pretrained(str(folder), safe_serialization=True)
        else:
            self._save_whole(self.whole, folder)

    def save_merged(self, folder: str | Path) -> None:
        """Writes the whole model with its adapter folded into the weights."""
        decoder = lora.merged(self.bare) if self.has_adapters else self.bare
        self._save_whole(copy.deepcopy(self.whole, {id(self.bare): decoder}), folder)

    def _save_whole(self, whole: Any, folder: str | Path) -> None:
        whole.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))

    def encoder_fingerprint(self) -> str:
        """Name of everything that turns texts into states and sounds into codes, and of their length."""
        frozen = {n: t for n, t in self.whole.state_dict().items() if not n.startswith("decoder.")}
        limits = (self.spec.max_prompt, self.frames)
        return fingerprint(frozen.items(), digest(self._words()), self.compute_dtype, limits)

    def sampler(self) -> str:
        """How codes are drawn, in words: part of the key of kept samples."""
        return f"{self.frames} frames, inverse of the cumulative distribution at counted uniform numbers"

    def notes(self) -> list[str]:
        """What a run says aloud about the model: what was cut, and sounds of another length."""
        seconds = f"{self.frames / self.codec.frame_rate:g} s"
        said = {
            "prompts": "prompts were over the limit and cut",
            "long": f"sounds were longer than {seconds} and cut",
            "short": f"sounds were shorter than {seconds}: a model without an end token makes none of them",
        }
        return [f"{self.cut[name]} {words}" for name, words in said.items() if self.cut[name]]

    # --- scoring ------------------------------------------------------------------------------------------------------

    def score_tree(self, packed: Any, asked: Asked) -> TokenScores:
        """Not offered: cross-attention and a grid of codebooks do not pack.

        Raises:
            ModelError: always; the likelihood asks for the plain path, as `follows_masks` is False.
        """
        raise ModelError("music is scored on the plain path.", field="likelihood.path", remedy='use path="plain".')

    def score_plain(self, batch: CandidateBatch, asked: Asked) -> TokenScores:
        """Scores [B, K, T] of columns: the sum over the codes that are said there; zero where none is."""
        B, K = batch.shape
        grid_RKT, length_R = batch.candidates["tokens"].flatten(0, 1), batch.candidates["length"].flatten()
        found = CodeLogits.of(
            self._answer(batch, self.spec.guidance),
            spoken=delay.spoken(length_R, self.waits, columns=grid_RKT.shape[-1]),
            temperature=asked.temperature,
        )
        collision_RT = found.collision() if asked.collision else None
        return TokenScores(
            logp=found.of_codes(grid_RKT).unflatten(0, (B, K)),
            collision=None if collision_RT is None else collision_RT.unflatten(0, (B, K)),
            distributions=found.unflatten(B) if asked.distributions else None,
        )

    def value_plain(self, batch: CandidateBatch) -> Float[Tensor, "B K T"]:
        """The value network's forecast before each column.

        Raises:
            ModelError: there is none.
        """
        return self._answer(batch, None).unflatten(0, batch.shape)

    def _answer(self, batch: CandidateBatch, guidance: float | None) -> Tensor:
        """What the scoring module says of the batch's rows."""
        K = batch.shape[1]
        with self.precision():
            states, heard = self._heard(batch.condition["prompt"], batch.condition["prompt_length"])
            rows = states.repeat_interleave(K, 0), heard.repeat_interleave(K, 0)
            return self.module(batch.candidates["tokens"].flatten(0, 1), *rows, guidance)

    @torch.no_grad()
    def _heard(
        self, prompt_BP: Int[Tensor, "B P"], length_B: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B P D"], Bool[Tensor, "B P"]]:
        """States of prompts as cross-attention reads them, zero beyond a prompt; and which are a prompt's."""
        heard = torch.arange(prompt_BP.shape[1], device=length_B.device) < length_B[:, None]
        # A text encoder need not bear a row that it may not look at; whatever it says there is silenced below.
        mask = heard | ~heard.any(-1, keepdim=True)
        states = self.whole.text_encoder(input_ids=prompt_BP, attention_mask=mask.long()).last_hidden_state
        states = self._projection()(states) * heard[..., None]
        return states.to(self.bare.dtype), heard

    # --- texts, sounds and codes --------------------------------------------------------------------------------------

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt's text, a conversation counting as its plain text; over `max_prompt` the end is cut."""
        ids = list(self.tokenizer(prompt.text)["input_ids"])
        longest = self.spec.max_prompt
        if longest is not None and len(ids) > longest:
            self.cut["prompts"] += 1
            ids = ids[:longest]
        return ids

    def encode_candidates(
        self, candidates: Sequence[Candidate], *, flips: Sequence[bool], seed: int
    ) -> list[dict[str, Tensor]]:
        """What a batch holds of each candidate: "tokens" [Kq, T], its codes delayed, and "length" [].

        A candidate that was drawn by this model and keeps its codes (`settings["codes"]`, [Kq][N]) is taken by them:
        its sound, encoded again, would give others. A flip swaps the two sides of stereo.

        Raises:
            ModelError: a candidate is no sound, or its codes are not of this model.
            MediaError: its file cannot be decoded.
        """
        rows = [self._codes(candidate, flip) for candidate, flip in zip(candidates, flips, strict=True)]
        return [self.grid_of(codes) for codes in rows]

    def grid_of(self, codes: Int[Tensor, "Kq N"]) -> dict[str, Tensor]:
        """What a batch holds of codes: "tokens" [Kq, T] and "length" []; frames over the limit are cut."""
        if codes.shape[1] != self.frames:
            self.cut["long" if codes.shape[1] > self.frames else "short"] += 1
            codes = codes[:, : self.frames]
        grid = delay.delayed(codes, self.waits, silent=silent_of(self.bare))
        return {"tokens": grid, "length": torch.tensor(grid.shape[1])}

    def _codes(self, candidate: Candidate, flip: bool) -> Int[Tensor, "Kq N"]:
        kept = candidate.settings.get("codes")
        if kept is None:
            codes = self.codec.encode(self.decode(candidate))
        else:
            codes = kept_codes(kept, codebooks=len(self.waits), entries=silent_of(self.bare))
        if flip and self.codec.channels == 2:
            codes = codes.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        return codes

    def decode(self, candidate: Candidate) -> Sound:
        """The sound of a candidate.

        Raises:
            ModelError: it has none.
            MediaError: it cannot be decoded.
        """
        from penchant.feedback.audio_files import is_sound, sound_of

        if candidate.media is None or not is_sound(candidate.media.bytes()):
            kind = "a text" if candidate.media is None else candidate.media.mime
            raise ModelError(
                f"candidate {candidate.id[:12]} is {kind}, and {type(self).__name__} learns from sounds.",
                field="feedback.path",
                remedy="use feedback on sounds, or another model.",
            )
        return sound_of(candidate)

    # --- generation ---------------------------------------------------------------------------------------------------

    def rollouts(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: Decoding) -> list[Rollout]:
        """One sample a (prompt, seed) to learn from: sound, codes and the log-prob of each column.

        Drawn as the policy is scored: at `decoding.temperature` and the policy's guidance, every code possible. The
        length is the policy's (`Policy.seconds`); `max_tokens` and `stop` are for texts.

        Raises:
            ModelError: top_p cuts codes, whose log-probs would not be those that are scored.
        """
        if decoding.top_p < 1:
            raise ModelError("what top_p cuts, the policy cannot be scored with.", field="top_p", remedy="use 1.")
        how = MusicDecoding(temperature=decoding.temperature, guidance=self.spec.guidance)
        drawn = self._drawn(prompts, seeds, how)
        return [
            Rollout(
                sample=self._sound(grid),
                candidate={"tokens": grid, "length": torch.tensor(grid.shape[1])},
                behavior_T=log_probs,
            )
            for grid, log_probs in zip(drawn.grid_RKT.cpu(), drawn.log_probs_RT.cpu(), strict=True)
        ]

    def generate(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: MusicDecoding) -> list[Sound]:
        """One sound a (prompt, seed), drawn as a user would have it."""
        return [self._sound(grid) for grid in self._drawn(prompts, seeds, decoding).grid_RKT]

    def codes_of(self, grid: Int[Tensor, "Kq T"]) -> Int[Tensor, "Kq N"]:
        """The codes of a candidate's "tokens": what `settings["codes"]` keeps of it, as a list."""
        return delay.undelayed(grid, self.waits)

    def _sound(self, grid: Int[Tensor, "Kq T"]) -> Sound:
        return self.codec.decode(self.codes_of(grid))

    def _drawn(self, prompts: Sequence[Prompt], seeds: Sequence[int], decoding: MusicDecoding) -> DrawnCodes:
        """A row's random numbers depend on its prompt and seed alone; the sums behind its logits are rounded as its
        batch happens to be shaped, which changes a code only where two are all but equally near.
        """
        if len(prompts) != len(seeds):
            raise ModelError(f"{len(prompts)} prompts came with {len(seeds)} seeds.", field="seeds")
        asked = self.encode_asked(prompts)
        length_R = torch.stack([row["prompt_length"] for row in asked]).to(self.device)
        tokens = nn.utils.rnn.pad_sequence([row["prompt"] for row in asked], batch_first=True)
        shape = (self.frames + max(self.waits), len(self.waits))
        uniform = [
            torch.from_numpy(generator(int(seed), 0, prompt.text, "music").random(shape))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        was_training = self.bare.training
        self.bare.eval()
        try:
            with self.precision():
                states, heard = self._heard(tokens.to(self.device), length_R)
                return draw_codes(self.bare, states, heard, torch.stack(uniform), decoding, self.waits)
        finally:
            self.bare.train(was_training)
