"""Random, very small models of the families whose images stand among the text tokens, saved as real ones are.

Weights are wide and channel 0 of the hidden state pushes unprintable tokens away, as in
``actors.engines.tiny``: the image changes what is said, and what is said is text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

PAD, BOS, END = "<pad>", "<s>", "<|im_end|>"
FRAMES = ("<|vision_start|>", "<|vision_end|>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
SPECIAL = (PAD, BOS, END, "<|im_start|>", *FRAMES, *TILES)
CORPUS = (
    "user assistant How many red circles are there? yes no I will count. The answer is 3.",
    "green blue 1 2 A. B.",
)
SIZE = 32

TEMPLATE = """\
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- for part in message['content'] %}
{%- if part['type'] == 'image' %}{{- 'IMAGE' }}{%- else %}{{- part['text'] }}{%- endif %}
{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def _tokenizer(image_token: str) -> Any:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = [*SPECIAL, image_token]
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, special_tokens=specials, show_progress=False),
    )
    raw.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, raw.token_to_id(BOS))]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": SIZE,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 48,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    } | more


_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "patch_size": 14,
}


def _llava(tokenizer: Any) -> tuple[Any, Any]:
    image = tokenizer.convert_tokens_to_ids("<image>")
    vision = hf.CLIPVisionConfig(**_VISION, image_size=42)
    config = hf.LlavaConfig(
        text_config=hf.LlamaConfig(**_text(tokenizer)), vision_config=vision, image_token_index=image
    )
    images = LlavaImageProcessorPil(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42})
    processor = hf.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return hf.LlavaForConditionalGeneration(config), processor


def _llava_next(tokenizer: Any) -> tuple[Any, Any]:
    image = tokenizer.convert_tokens_to_ids("<image>")
    grids = [[28, 56], [56, 28], [56, 56]]
    config = hf.LlavaNextConfig(
        text_config=hf.MistralConfig(**_text(tokenizer), sliding_window=None),
        vision_config=hf.CLIPVisionConfig(**_VISION, image_size=28),
        image_token_index=image,
        image_grid_pinpoints=grids,
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grids
    )
    processor = hf.LlavaNextProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


def _idefics3(tokenizer: Any) -> tuple[Any, Any]:
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = hf.Idefics3Config(
        text_config=hf.LlamaConfig(**_text(tokenizer)),
        vision_config=Idefics3VisionConfig(**_VISION, image_size=56),
        image_token_id=image,
        scale_factor=2,
    )
    images = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    processor = hf.Idefics3Processor(image_processor=images, tokenizer=tokenizer, image_seq_len=4)
    return hf.Idefics3ForConditionalGeneration(config), processor


def _smolvlm(tokenizer: Any) -> tuple[Any, Any]:
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = hf.SmolVLMConfig(
        text_config=hf.LlamaConfig(**_text(tokenizer)),
        vision_config=SmolVLMVisionConfig(**_VISION, image_size=56),
        image_token_id=image,
        scale_factor=2,
    )
    images = SmolVLMImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    return hf.SmolVLMForConditionalGeneration(config), images


def _qwen_tokens(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "vision_start_token_id": FRAMES[0], "vision_end_token_id": FRAMES[1]}
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()} | {"video_token_id": -1}


def _mrope(interleaved: bool = False) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    return rope | ({"mrope_interleaved": True} if interleaved else {})


def _qwen2(tokenizer: Any) -> tuple[Any, Any]:
    vision = Qwen2VLVisionConfig(depth=2, embed_dim=32, hidden_size=SIZE, num_heads=2, mlp_ratio=2)
    text = Qwen2VLTextConfig(**_text(tokenizer, rope_parameters=_mrope()))
    config = hf.Qwen2VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
    return hf.Qwen2VLForConditionalGeneration(config), _qwen_images(14)


def _qwen2_5(tokenizer: Any) -> tuple[Any, Any]:
    vision = Qwen2_5_VLVisionConfig(
        depth=2,
        hidden_size=32,
        out_hidden_size=SIZE,
        intermediate_size=48,
        num_heads=2,
        window_size=56,
        fullatt_block_indexes=[1],
    )
    text = Qwen2_5_VLTextConfig(**_text(tokenizer, rope_parameters=_mrope()))
    config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
    return hf.Qwen2_5_VLForConditionalGeneration(config), _qwen_images(14)


def _qwen3(tokenizer: Any) -> tuple[Any, Any]:
    vision = Qwen3VLVisionConfig(
        depth=3,
        hidden_size=32,
        out_hidden_size=SIZE,
        intermediate_size=48,
        num_heads=2,
        num_position_embeddings=16,
        deepstack_visual_indexes=[0, 1],
    )
    text = Qwen3VLTextConfig(**_text(tokenizer, rope_parameters=_mrope(interleaved=True), head_dim=16))
    config = hf.Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
    return hf.Qwen3VLForConditionalGeneration(config), _qwen_images(16)


def _qwen_images(patch: int) -> Any:
    side = 2 * patch
    sizes = {"shortest_edge": 4 * side**2, "longest_edge": 16 * side**2}
    return Qwen2VLImageProcessorPil(size=sizes, patch_size=patch)


_BUILDERS: dict[str, tuple[Callable[[Any], tuple[Any, Any]], str]] = {
    "llava": (_llava, "<image>"),
    "llava_next": (_llava_next, "<image>"),
    "idefics3": (_idefics3, "<image>"),
    "smolvlm": (_smolvlm, "<image>"),
    "qwen2_vl": (_qwen2, "<|image_pad|>"),
    "qwen2_5_vl": (_qwen2_5, "<|image_pad|>"),
    "qwen3_vl": (_qwen3, "<|image_pad|>"),
}
KINDS = tuple(_BUILDERS)


def build_tiny(kind: str, folder: Path) -> None:
    """Save a model of ``kind`` with its processor and chat template under ``folder``."""
    build, image_token = _BUILDERS[kind]
    tokenizer = _tokenizer(image_token)
    is_qwen = kind.startswith("qwen")
    written = f"{FRAMES[0]}{image_token}{FRAMES[1]}" if is_qwen else f"{image_token}\\n"
    template = ("" if is_qwen else "{{- bos_token }}") + TEMPLATE.replace("IMAGE", written)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = build(tokenizer)
        _enliven(model, tokenizer)
    model.generation_config = hf.GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=0, do_sample=False)
    model.eval().save_pretrained(folder)
    processor.chat_template = template
    if not hasattr(processor, "tokenizer"):
        # Such a processor cannot be made here; its files are written as published models have them.
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
        if kind == "smolvlm":
            settings = {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"}
            (folder / "processor_config.json").write_text(json.dumps(settings))
        del processor.chat_template
    processor.save_pretrained(folder)


@torch.no_grad()
def _enliven(model: Any, tokenizer: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            fan_in = parameter[0].numel()
            parameter.normal_(0.0, 1.0 if "embed_tokens" in name else fan_in**-0.5)
    inner = model.model
    language = inner.language_model if hasattr(inner, "language_model") else inner.text_model
    language.embed_tokens.weight[:, 0] = 4.0
    for layer in language.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    texts = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    unwanted = [n for n, text in enumerate(texts) if n in special or not text.isprintable() or "\ufffd" in text]
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[unwanted, 0] = -30.0
