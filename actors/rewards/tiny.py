"""Random, very small reward models with their tokenizers, for tests and smoke runs.

They have learned nothing, and are written to disk in the form in which real models come. No
product code may depend on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForTokenClassification,
)

from actors.engines.tiny import BOS, CHAT_TEMPLATE, EOT, PAD, SPECIAL_TOKENS
from reasoning.stages import TAGS

STEP_TOKEN = "<extra_0>"
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def build_tiny_reward(
    path: Path | str, *, labels: int = 1, seed: int = 0, has_template: bool = True, has_pad: bool = True
) -> None:
    """A Llama for sequence classification with ``labels`` outputs. The same arguments give the same files.

    ``has_pad`` says whether the model names a padding token; many published reward models name none.
    """
    tokenizer = _build_tokenizer(has_template)
    tokenizer.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_labels=labels, pad_token_id=tokenizer.pad_token_id if has_pad else None, **_SIZES
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save(LlamaForSequenceClassification(config), path)


def build_tiny_step_reward(path: Path | str, *, seed: int = 0) -> None:
    """A Qwen2 for token classification with two labels, wrong and right, and ``STEP_TOKEN`` in its vocabulary."""
    tokenizer = _build_tokenizer(has_template=True)
    tokenizer.save_pretrained(path)
    config = Qwen2Config(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **_SIZES)
    config.id2label, config.label2id = {0: "wrong", 1: "right"}, {"wrong": 0, "right": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save(Qwen2ForTokenClassification(config), path)


@torch.no_grad()
def _save(model: LlamaForSequenceClassification | Qwen2ForTokenClassification, path: Path | str) -> None:
    """With wider weights than usual at the start, so that texts get scores that differ clearly."""
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.normal_(0.0, 1.0 if "embed" in name else 2 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(path)


def _build_tokenizer(has_template: bool) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[*SPECIAL_TOKENS, STEP_TOKEN],
        show_progress=False,
    )
    raw.train_from_iterator(["How many cubes are there? I will count the objects. The image shows cubes."], trainer)
    raw.add_tokens(list(TAGS))
    raw.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {EOT} $B {EOT}",
        special_tokens=[(BOS, raw.token_to_id(BOS)), (EOT, raw.token_to_id(EOT))],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=EOT,
        pad_token=PAD,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE if has_template else None,
    )
