"""`CausalLM`: what every causal language model of transformers is to the rest of the house.

Prompts and completions are tokenised apart and joined, so a prompt has the same tokens before every candidate. With a
chat template a prompt is a conversation up to the answer, and a completion is the rest of it up to the token that ends
the turn; without one, texts are taken as they are and a completion ends with the end-of-sequence token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.groups import Candidate, Prompt
from penchant.likelihoods.packing import Packed
from penchant.likelihoods.randomness import generator
from penchant.likelihoods.token_divergence import TokenLogits
from penchant.models import lora
from penchant.models.completion import Completion, Decoding
from penchant.models.decoding import Ends, Request, decode
from penchant.models.language_scoring import LanguageScoring, ValueNetwork, follows_masks
from penchant.models.spec import Policy
from penchant.models.token_model import TokenModel, digest
from penchant.types import Asked, CandidateBatch, TokenScores


class CausalLM(TokenModel):
    """A loaded causal language model.

    Attributes:
        bare: the transformers model.
        module: what scoring calls: `LanguageScoring`, or the distributed wrapper that a loop puts around it.
        tokenizer: its tokenizer.
        spec: the `Policy` it was loaded from.
        chats: whether prompts and completions go through the tokenizer's chat template.
        has_adapters: whether a LoRA adapter trains.
        modality: what completions are, "text" or "tune"; the policy's notation says which.
        cut: how many prompts and completions were longer than the policy allows, and lost the rest.
    """

    modality: str = "text"

    def __init__(self, model: Any, tokenizer: Any, spec: Policy) -> None:
        super().__init__(model.eval(), tokenizer, spec)
        self.modality = spec.notation or "text"
        self.follows_masks = follows_masks(model)
        self.chats = spec.chat == "template" or (spec.chat == "auto" and bool(tokenizer.chat_template))
        if self.chats and not tokenizer.chat_template:
            raise ModelError("its tokenizer has no chat template.", field="policy.chat", remedy="use chat='plain'.")
        self.cut = {"prompts": 0, "completions": 0}
        ends = model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        own = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        self.end_ids = frozenset([*ends, *own])
        if not self.end_ids:
            raise ModelError("knows no token that ends a text.", field="eos_token", remedy="give the tokenizer one.")

    def _scoring_of(self, bare: Any) -> LanguageScoring:
        return LanguageScoring(bare)

    def _value_of(self, bare: Any) -> ValueNetwork:
        if not self.follows_masks:
            raise ModelError(
                "a value network copies a trunk that follows a tree mask.",
                field="objective",
                remedy="use rloo or grpo, which need none.",
            )
        return ValueNetwork(bare)

    def _lora_targets(self) -> list[str]:
        return _linear_layers(self.bare)

    def to(self, device: torch.device | str) -> Self:
        """Moves the model, in place."""
        self.bare.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Writes an ordinary peft adapter folder, or, when all weights train, an ordinary transformers folder."""
        self.bare.save_pretrained(str(folder), safe_serialization=True)
        if not self.has_adapters:
            self.tokenizer.save_pretrained(str(folder))

    def save_merged(self, folder: str | Path) -> None:
        """Writes the whole model with its adapter folded into the weights: what every inference server loads."""
        merged = lora.merged(self.bare) if self.has_adapters else self.bare
        merged.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))

    def encoder_fingerprint(self) -> str:
        """Name of everything that turns texts into tokens."""
        limits = (self.spec.max_prompt, self.spec.max_completion, sorted(self.end_ids))
        template = self.tokenizer.chat_template if self.chats else None
        return digest(repr((type(self).__name__, self._words(), template, limits)))

    def sampler(self) -> str:
        """How `complete` draws, in words: part of the key of kept samples."""
        return "inverse of the cumulative distribution at counted uniform numbers"

    def notes(self) -> list[str]:
        """What a run says aloud about the model: the slow path, texts that were cut."""
        found = []
        if not self.follows_masks:
            kind = self.bare.config.model_type
            found.append(f"{kind} is not known to follow a tree mask: scored on the plain path, a row a candidate")
        found += [f"{count} {what} were over the limit and cut" for what, count in self.cut.items() if count]
        return found

    # --- scoring ------------------------------------------------------------------------------------------------------

    def score_tree(self, packed: Packed, asked: Asked) -> TokenScores:
        """Scores [N] of the packed targets: the prompt once, the head on completion tokens."""
        with self.precision():
            return self.module(packed, asked)

    def score_plain(self, batch: CandidateBatch, asked: Asked) -> TokenScores:
        """Scores [B, K, T], one padded row a candidate."""
        rows, start_R = self._rows(batch)
        with self.precision():
            found = self.module(rows, asked)
        B, K, T = batch.candidates["tokens"].shape
        place_RT = (start_R[:, None] - 1 + torch.arange(T, device=start_R.device)).clamp(max=found.logp.shape[1] - 1)
        row_R1 = torch.arange(len(start_R), device=start_R.device)[:, None]

        def read(value_RL: Tensor) -> Tensor:
            return value_RL[row_R1, place_RT].view(B, K, T, *value_RL.shape[2:])

        whole = found.distributions
        return TokenScores(
            logp=read(found.logp),
            collision=None if found.collision is None else read(found.collision),
            distributions=None if whole is None else TokenLogits(logp=read(whole.logp)),
        )

    def value_tree(self, packed: Packed) -> Tensor:
        """The value network's forecast [N] before each of the packed targets.

        Raises:
            ModelError: there is none.
        """
        with self.precision():
            return self.module(packed, None)

    def _rows(self, batch: CandidateBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Prompt and completion in one row a candidate, padded at the end; where each completion starts."""
        B, K = batch.shape
        prompt_R = batch.condition["prompt_length"].repeat_interleave(K)
        length_R = batch.candidates["length"].flatten()
        width = int((prompt_R + length_R).max())
        tokens = torch.zeros(B * K, width, dtype=torch.long, device=prompt_R.device)
        for r in range(B * K):
            p, n = int(prompt_R[r]), int(length_R[r])
            tokens[r, :p] = batch.condition["prompt"][r // K, :p]
            tokens[r, p : p + n] = batch.candidates["tokens"][r // K, r % K, :n]
        mask = torch.arange(width, device=prompt_R.device) < (prompt_R + length_R)[:, None]
        return {"tokens": tokens, "mask": mask.long()}, prompt_R

    # --- texts and tokens ---------------------------------------------------------------------------------------------

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of what comes before the completion; over `max_prompt` the beginning is cut.

        Raises:
            ModelError: there is none.
        """
        if self.chats:
            messages = list(prompt.messages) or [{"role": "user", "content": prompt.text}]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = self.tokenizer(text + prompt.opening, add_special_tokens=False)["input_ids"]
        else:
            ids = list(self.tokenizer(prompt.text + prompt.opening)["input_ids"])
            while ids and ids[-1] in self.end_ids and len(ids) > 1:
                ids.pop()
        if not ids:
            raise ModelError("a prompt has no token.", field="prompt", remedy="ask something.")
        longest = self.spec.max_prompt
        if longest is not None and len(ids) > longest:
            self.cut["prompts"] += 1
            ids = ids[-longest:]
        return list(ids)

    def completion_tokens(self, candidate: Candidate) -> list[int]:
        """Tokens of a candidate, the one that ends it included; over `max_completion` the end is cut.

        Raises:
            ModelError: the candidate is no text, or the chat template does not continue its own beginning.
        """
        if candidate.text is None:
            raise ModelError(
                f"candidate {candidate.id[:12]} is no text, and {type(self).__name__} learns from texts.",
                field="feedback.path",
                remedy="use feedback on texts, or an image model.",
            )
        text = self._templated(candidate) if self.chats else candidate.text
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        last = max((i for i, token in enumerate(ids) if token in self.end_ids), default=None)
        # A template may write a line break behind the end of the turn; generation stops at the end.
        ids = ids[: last + 1] if self.chats and last is not None else [*ids, self._end()]
        longest = self.spec.max_completion
        if longest is not None and len(ids) > longest:
            self.cut["completions"] += 1
            ids = ids[:longest]
        return ids

    def _end(self) -> int:
        own = self.tokenizer.eos_token_id
        return own if own is not None else min(self.end_ids)

    def _templated(self, candidate: Candidate) -> str:
        """What the chat template writes for the answer, behind the beginning of the answer."""
        answer = list(candidate.settings.get("messages", [])) or [{"role": "assistant", "content": candidate.text}]
        asked = [{"role": "user", "content": "."}]
        before = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        whole = self.tokenizer.apply_chat_template([*asked, *answer], tokenize=False)
        if not whole.startswith(before):
            raise ModelError(
                "the chat template writes an answer that does not begin as its own prompt for one.",
                field="policy.chat",
                remedy="use chat='plain', or a template without hidden thoughts.",
            )
        return whole[len(before) :]

    def encode_candidates(
        self, candidates: Sequence[Candidate], *, flips: Sequence[bool], seed: int
    ) -> list[dict[str, Tensor]]:
        """What a batch holds of each candidate: "tokens" [T] and "length" [].

        Raises:
            ModelError: a candidate is no text.
        """
        rows = [self.completion_tokens(candidate) for candidate in candidates]
        return [{"tokens": torch.tensor(ids), "length": torch.tensor(len(ids))} for ids in rows]

    # --- generation ---------------------------------------------------------------------------------------------------

    def complete(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: Decoding) -> list[Completion]:
        """One completion a (prompt, seed).

        A row's random numbers depend on its prompt and seed alone; the sums behind its logits are rounded as its batch
        happens to be shaped, which changes a token only where two are all but equally near.

        Args:
            prompts: N prompts; equal ones, and such that begin alike, are computed once.
            seeds: N seeds.
            decoding: how tokens are drawn.
        """
        if len(prompts) != len(seeds):
            raise ModelError(f"{len(prompts)} prompts came with {len(seeds)} seeds.", field="seeds")
        requests = [
            Request(
                tokens=tuple(self.prompt_tokens(prompt)),
                uniform=generator(int(seed), 0, _name(prompt), "completion").random(decoding.max_tokens),
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        ends = Ends(ids=self.end_ids, ends=self._stops(decoding.stop) if decoding.stop else None)
        was_training = self.bare.training
        self.bare.eval()
        try:
            with self.precision():
                drawn = decode(
                    self.bare,
                    requests,
                    decoding,
                    ends,
                    share=self._shares(requests, decoding),
                    padded=self.follows_masks,
                )
        finally:
            self.bare.train(was_training)
        return [self._completion(row.tokens, row.log_probs, row.finished, decoding.stop) for row in drawn]

    def _shares(self, requests: Sequence[Request], decoding: Decoding) -> bool:
        """A sliding window counts slots, and a fork leaves holes between them."""
        window = getattr(self.bare.config, "sliding_window", None)
        longest = max((len(r.tokens) for r in requests), default=0) + decoding.max_tokens
        return self.follows_masks and (window is None or 2 * longest < window)

    def _stops(self, stop: Sequence[str]) -> Any:
        # Enough tokens to hold the longest stop text even if each is one byte of it.
        reach = max(len(text.encode()) for text in stop) + 4

        def ends(tokens: Sequence[int]) -> bool:
            tail = self.tokenizer.decode(tokens[-reach:], skip_special_tokens=False)
            return any(text in tail for text in stop)

        return ends

    def _completion(
        self, tokens: Sequence[int], log_probs: Sequence[float], finished: bool, stop: Sequence[str]
    ) -> Completion:
        shown = tokens[:-1] if tokens and tokens[-1] in self.end_ids else tokens
        text = self.tokenizer.decode(shown, skip_special_tokens=True)
        cuts = [place for place in (text.find(mark) for mark in stop) if place >= 0]
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            tokens=tuple(tokens),
            log_probs=tuple(log_probs),
            finished=finished,
        )


def _name(prompt: Prompt) -> str:
    return json.dumps([prompt.text, [dict(m) for m in prompt.messages], prompt.opening], sort_keys=True)


def _linear_layers(model: Any) -> list[str]:
    """Last names of all linear layers but the head."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    named: Mapping[str, Any] = dict(model.named_modules())
    return sorted(
        {name.rsplit(".", 1)[-1] for name, m in named.items() if isinstance(m, nn.Linear | Conv1D) and m is not head}
    )
