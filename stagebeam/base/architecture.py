"""Architecture, tokenizer and processor of the tiny base model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from reasoning.stages import TAGS
from stagebeam.world.draw import CELL, SIDE

BOS, EOT, PAD, USER, ASSISTANT, IMAGE = (
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|image|>",
)
VOCABULARY = 640
HIDDEN, LAYERS, HEADS, MLP = 128, 6, 4, 352
CROSS_LAYERS = [1, 4]
VISION_HIDDEN, VISION_LAYERS, VISION_GLOBAL, VISION_HEADS, VISION_MLP = 128, 3, 1, 4, 384
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the world's own text; the image token comes last, as in the real model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [BOS, EOT, PAD, USER, ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS) - 1,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOT,
        pad_token=PAD,
        padding_side="left",
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )
    fast.add_tokens(list(TAGS), special_tokens=False)
    fast.add_tokens([IMAGE], special_tokens=True)
    return fast


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Pictures of the world fill exactly one tile, so nothing is resized."""
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    image_processor = MllamaImageProcessorPil(max_image_tiles=1, size={"height": SIDE, "width": SIDE})
    return MllamaProcessor(image_processor=image_processor, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> MllamaForConditionalGeneration:
    """A fresh model, gates open: at zero, as Mllama starts, the picture would have no effect."""
    torch.manual_seed(seed)
    vocabulary = len(tokenizer) - 1
    vision = MllamaVisionConfig(
        hidden_size=VISION_HIDDEN,
        num_hidden_layers=VISION_LAYERS,
        num_global_layers=VISION_GLOBAL,
        attention_heads=VISION_HEADS,
        intermediate_size=VISION_MLP,
        image_size=SIDE,
        patch_size=CELL,
        max_num_tiles=1,
        supported_aspect_ratios=[[1, 1]],
        intermediate_layers_indices=[1],
        vision_output_dim=VISION_HIDDEN * 2,
    )
    text = MllamaTextConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        cross_attention_layers=CROSS_LAYERS,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=vocabulary)
    model = MllamaForConditionalGeneration(config)
    _rescale(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model


def _rescale(model: torch.nn.Module) -> None:
    """Linear weights at 1/sqrt(fan in) and open gates: the default 0.02 is made for wide models."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate" in name and parameter.numel() == 1:
                parameter.fill_(1.0)
            elif "positional_embedding" in name:
                parameter.normal_(0.0, 1.0)
            elif "embedding" in name and parameter.dim() >= 2 and "patch" not in name:
                parameter.normal_(0.0, 0.3)
            elif parameter.dim() >= 2:
                fan_in = parameter[0].numel()
                parameter.normal_(0.0, 1.0 / math.sqrt(fan_in))
            elif name.endswith("class_embedding"):
                parameter.normal_(0.0, 0.3)


def save(folder: Path, model: Any, processor: Any) -> None:
    """The whole model folder; weights in half precision, 2 bytes a parameter."""
    import copy

    folder.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.save_pretrained(folder)
    processor.save_pretrained(folder)
