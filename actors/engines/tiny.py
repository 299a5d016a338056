"""A random, very small Llama-3.2-Vision model with its processor, for tests and smoke runs.

It has learned nothing. Its gates are open, so that the image changes what it says, and it is
written to disk in the form in which real models come (``config.json``, safetensors, tokenizer,
chat template). No product code may depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from reasoning.stages import TAGS

PAD, BOS, EOT = "<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|eot_id|>"
SPECIAL_TOKENS = (PAD, BOS, "<|end_of_text|>", EOT, "<|start_header_id|>", "<|end_header_id|>")
IMAGE_TOKEN = "<|image|>"

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{%- if message['content'] is string %}
{{- message['content'] }}
{%- else %}
{%- for part in message['content'] %}
{%- if part['type'] == 'image' %}{{- '<|image|>' }}{%- else %}{{- part['text'] }}{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_CORPUS = (
    "user assistant system How many red circles are there? Is there a large blue square? yes no",
    "Judge summary caption reasoning conclusion answer Hint: 1: 2: I choose response 1. I choose response 2.",
    "I will count the objects. The image shows a small green star at the top left. So the answer is 3.",
    "A. B. C. D. 0 1 2 3 4 5 6 7 8 9 10 What colour is the shape in the middle row? red green blue yellow gray",
)


def build_tiny_mllama(
    path: Path | str,
    *,
    seed: int = 0,
    max_tiles: int = 1,
    hidden_size: int = 64,
    tags_as_tokens: bool = True,
    corpus: Iterable[str] = _CORPUS,
) -> None:
    """Save model, tokenizer, processor and chat template under ``path``.

    ``max_tiles`` is the number of 32 px tiles an image may be cut into (1 or 4);
    ``tags_as_tokens`` says whether each stage tag is one token or is spelled with several.
    The same arguments give the same files.
    """
    folder = Path(path)
    processor = _build_processor(corpus, tags_as_tokens, max_tiles)
    processor.save_pretrained(folder)
    model = _build_model(processor.tokenizer, seed, max_tiles, hidden_size)
    model.save_pretrained(folder)


def _build_processor(corpus: Iterable[str], tags_as_tokens: bool, max_tiles: int) -> MllamaProcessor:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    if tags_as_tokens:
        raw.add_tokens(list(TAGS))
    # Plain tokenizer calls add one BOS, as the published Llama tokenizers do.
    raw.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, raw.token_to_id(BOS))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=EOT,
        pad_token=PAD,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        # The image token comes last: the embedding has a row for it, the output layer has none.
        additional_special_tokens=[IMAGE_TOKEN],
    )
    images = MllamaImageProcessorPil(size={"height": 32, "width": 32}, max_image_tiles=max_tiles)
    return MllamaProcessor(image_processor=images, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE)


def _build_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, max_tiles: int, hidden_size: int
) -> MllamaForConditionalGeneration:
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    aspect_ratios = [[1, 1]] if max_tiles == 1 else None
    config = MllamaConfig(
        vision_config=MllamaVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_global_layers=1,
            attention_heads=2,
            intermediate_size=64,
            image_size=32,
            # 4 patches and the class token: a count that is a multiple of 8 would cut the wrong slice.
            patch_size=16,
            max_num_tiles=max_tiles,
            supported_aspect_ratios=aspect_ratios,
            intermediate_layers_indices=[1],
            vision_output_dim=64,
        ),
        text_config=MllamaTextConfig(
            vocab_size=image_token,
            hidden_size=hidden_size,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=2 * hidden_size,
            cross_attention_layers=[1, 3],
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
        ),
        image_token_index=image_token,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MllamaForConditionalGeneration(config)
        _enliven(model, _unwanted(tokenizer, image_token))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.eval()


@torch.no_grad()
def _enliven(model: MllamaForConditionalGeneration, unwanted: list[int]) -> None:
    """Open every gate and widen the weights: at the usual start a model repeats one token and ignores the image.

    Channel 0 of the hidden state is kept constant and pushes ``unwanted`` tokens away, so that what
    the model says is printable text.
    """
    for name, parameter in model.named_parameters():
        if "gate" in name and parameter.numel() == 1:
            parameter.fill_(0.7)
        elif parameter.dim() >= 2:
            parameter.normal_(0.0, 1.0 if "embed" in name else parameter.shape[-1] ** -0.5)
    language = model.model.language_model
    language.embed_tokens.weight[:, 0] = 4.0
    for layer in language.layers:
        attention = layer.self_attn if hasattr(layer, "self_attn") else layer.cross_attn
        attention.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[unwanted, 0] = -30.0


def _unwanted(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> list[int]:
    """Control tokens other than the end of turn, and bytes that are no printable character."""
    kept = tokenizer.convert_tokens_to_ids(EOT)
    texts = tokenizer.batch_decode([[number] for number in range(vocabulary)])
    special = set(tokenizer.all_special_ids)
    return [
        number
        for number, text in enumerate(texts)
        if number != kept and (number in special or not text.isprintable() or "\ufffd" in text)
    ]
