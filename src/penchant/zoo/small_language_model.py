"""The architecture that the shipped language models share: a small Llama over words of our own."""

from __future__ import annotations

from typing import Any

BOS, EOS, PAD, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<bos>", "<eos>", "<pad>", "<unk>")


def fast_tokenizer(core: Any, *, longest: int) -> Any:
    """A tokenizer of transformers around one of `tokenizers`, whose first words are `SPECIALS`; a text starts with bos.

    Args:
        core: the tokenizer.
        longest: tokens of the longest text.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
        # A text that contains "<eos>" says so in characters or unknown words; it is not the end.
        split_special_tokens=True,
    )


def llama(words: int, *, intermediate: int, longest: int) -> Any:
    """LlamaForCausalLM, 4 layers of width 128 (0.9 M parameters), embeddings tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=128,
            intermediate_size=intermediate,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=longest,
            initializer_range=0.04,
            tie_word_embeddings=True,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )
