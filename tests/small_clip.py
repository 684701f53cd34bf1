"""A small random CLIP as Hugging Face stores one."""

import json
from pathlib import Path

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_clip_folder(folder: Path, vocabulary: int = 0, length: int = 8) -> Path:
    """vocabulary: how many tokens another tokenizer knows, whose files are written over these."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    size = vocabulary or len(words)
    first, last = (size - 2, size - 1) if vocabulary else (0, 1)
    text = {**sizes, "vocab_size": size, "max_position_embeddings": length, "bos_token_id": first, "eos_token_id": last}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    with torch.inference_mode(False):
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"unk_token": words[1], "bos_token": words[0], "eos_token": words[1], "pad_token": words[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", **special}))
    return folder
