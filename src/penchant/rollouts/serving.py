"""Rollouts through an inference server: each round it takes up the policy's adapter and completes the prompts.

    POST /v1/load_lora_adapter    {"lora_name": "...-round-7", "lora_path": "FOLDER/round-7"}
    POST /v1/completions          {"model": "...-round-7", "prompt": [ids], "logprobs": 1, "return_token_ids": true}
    POST /v1/unload_lora_adapter  {"lora_name": "...-round-6"}

These are vLLM's words. The tokens that are learnt from are the server's own, never its text tokenised again, and its
log-probs are the behavior: where its kernels round otherwise than ours, the importance ratio says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from penchant.assets import resolve
from penchant.errors import ModelError
from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding
from penchant.models.served_lm import ServedLM
from penchant.models.spec import Policy
from penchant.recipe import Server
from penchant.rollouts.texts import text_rollout
from penchant.types import Rollout


@final
class ServerActor:
    """Draws through a server.

    Args:
        server: where it is.
        decoding: how tokens are drawn.
        policy: whose tokenizer writes the prompts; cut prompts stay within its limit.
        accelerator: the first process writes adapters, the others wait for it.
    """

    def __init__(self, server: Server, decoding: Decoding, policy: Policy, accelerator: Any) -> None:
        self.folder, self.decoding, self.accelerator = Path(server.folder), decoding, accelerator
        self.lm = ServedLM(
            url=server.url,
            model="",
            key_variable=server.key_variable,
            chat=policy.chat,
            tokenizer=resolve(policy.path),
            concurrency=server.concurrency,
            extra={"return_token_ids": True},
        )
        self.round = -1

    def draw(self, model: Any, prompts: Sequence[Prompt], seeds: Sequence[int], *, round: int) -> list[Rollout]:
        """See `Actor`.

        Raises:
            ModelError: the server does not answer, takes up no adapters, or tells no token ids or log-probs.
        """
        if round != self.round:
            self._hand_over(model, round)
        lm = replace(self.lm, model=self._name(round))
        drawn = lm.complete(prompts, seeds=seeds, decoding=self.decoding)
        for completion in drawn:
            if not completion.tokens or len(completion.tokens) != len(completion.log_probs):
                raise ModelError(
                    f"tells {len(completion.tokens)} tokens and {len(completion.log_probs)} log-probs.",
                    file=self.lm.url,
                    remedy="use a server that knows return_token_ids, such as vLLM.",
                )
        return [text_rollout(prompt, completion, model) for prompt, completion in zip(prompts, drawn, strict=True)]

    def _hand_over(self, model: Any, round: int) -> None:
        """Gives the server the adapter of this moment, and takes the last round's away."""
        if self.accelerator.is_main_process:
            path = self.folder / f"round-{round}"
            shutil.rmtree(path, ignore_errors=True)
            model.save(path)
            # A resumed run hands the same round over again.
            self.lm.tell("/unload_lora_adapter", {"lora_name": self._name(round)}, required=False)
            self.lm.tell("/load_lora_adapter", {"lora_name": self._name(round), "lora_path": str(path.resolve())})
            if self.round >= 0:
                self.lm.tell("/unload_lora_adapter", {"lora_name": self._name(self.round)}, required=False)
                shutil.rmtree(self.folder / f"round-{self.round}", ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.round = round

    def _name(self, round: int) -> str:
        return f"{self.folder.name}-round-{round}"
