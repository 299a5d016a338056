"""Random weights with the layers of Llama-3.2-11B-Vision, for measuring speed without a download.

The vocabulary is the tests' small one, since the tokenizer is: the output layer is the one part that
is smaller than the real one's (0.5 of 10.7 B parameters, and as much in the embedding).
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GenerationConfig, MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from actors.chat import load_processor
from actors.engines.tiny import IMAGE_TOKEN, build_tiny_mllama

TILE = 560


def build_11b(folder: Path, *, text_layers: int = 40, device: str = "cuda") -> None:
    """Save model and processor under ``folder`` in bfloat16, 20 GB; ``text_layers`` below 40 makes it smaller.

    The weights are drawn on ``device``: on a CPU that takes minutes.
    """
    build_tiny_mllama(folder)
    small = load_processor(folder)
    tokenizer = small.tokenizer
    images = MllamaImageProcessorPil(size={"height": TILE, "width": TILE}, max_image_tiles=4)
    MllamaProcessor(image_processor=images, tokenizer=tokenizer, chat_template=small.chat_template).save_pretrained(
        folder
    )
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    config = MllamaConfig(
        # The defaults of both parts are Llama-3.2-11B-Vision's.
        vision_config=MllamaVisionConfig(image_size=TILE),
        text_config=MllamaTextConfig(
            vocab_size=image_token,
            num_hidden_layers=text_layers,
            cross_attention_layers=list(range(3, text_layers, 5)),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=image_token,
    )
    with torch.device(device):
        torch.manual_seed(0)
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = MllamaForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(previous)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate" in name and parameter.numel() == 1:
                parameter.fill_(0.5)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
