"""Scores by transformers' CLIP, which a CLIP folder holds, are those of open_clip with the same weights."""

import json

from animatic_pack.evaluation import similarity
from animatic_pack.evaluation.clip_folder import ClipFolder
import pytest
from small_clip import write_clip_folder
import torch

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not installed")

PROMPTS = ("A red fox runs, quickly!", "snow", "two words " * 60)
LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
LAYER["self_attn.out_proj"] = "attn.out_proj"


def transformer(weights: dict, theirs: str, ours: str) -> dict:
    """A stack of attention layers in open_clip's names."""
    found = {}
    for number in range(2):
        old, new = f"{theirs}.encoder.layers.{number}", f"{ours}transformer.resblocks.{number}"
        for kind in ("weight", "bias"):
            found |= {f"{new}.{name}.{kind}": weights[f"{old}.{key}.{kind}"] for key, name in LAYER.items()}
            parts = [weights[f"{old}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            found[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
    return found


def as_open_clip(weights: dict) -> dict:
    norms = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    norms["text_model.final_layer_norm"] = "ln_final"
    found = {f"{new}.{kind}": weights[f"{old}.{kind}"] for old, new in norms.items() for kind in ("weight", "bias")}
    seen, read = "vision_model.embeddings", "text_model.embeddings"
    return {
        **found,
        **transformer(weights, "vision_model", "visual."),
        **transformer(weights, "text_model", ""),
        "visual.class_embedding": weights[f"{seen}.class_embedding"],
        "visual.conv1.weight": weights[f"{seen}.patch_embedding.weight"],
        "visual.positional_embedding": weights[f"{seen}.position_embedding.weight"],
        "visual.proj": weights["visual_projection.weight"].T,
        "token_embedding.weight": weights[f"{read}.token_embedding.weight"],
        "positional_embedding": weights[f"{read}.position_embedding.weight"],
        "text_projection": weights["text_projection.weight"].T,
        "logit_scale": weights["logit_scale"],
    }


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.SimpleTokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """With the vocabulary that all CLIPs of OpenAI's layout share."""
    folder = write_clip_folder(tmp_path_factory.mktemp("clip"), len(tokenizer.encoder), 77)
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(word, word): number for word, number in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(words))
    merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return folder


def test_pictures_prompts_and_scores_are_equal_with_equal_weights(folder, tokenizer):
    ours = ClipFolder(folder)
    sizes = {"layers": 2, "width": 16}
    vision = open_clip.CLIPVisionCfg(**sizes, head_width=8, mlp_ratio=2.0, patch_size=8, image_size=32)
    text = open_clip.CLIPTextCfg(**sizes, heads=2, mlp_ratio=2.0, vocab_size=len(tokenizer.encoder))
    theirs = open_clip.CLIP(12, vision, text, quick_gelu=True).eval()
    theirs.load_state_dict(as_open_clip(ours.model.state_dict()), strict=False)
    frames = torch.rand(5, 32, 32, 3)
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    seen = theirs.encode_image(((frames - mean) / std).movedim(3, 1), normalize=True)
    embedded = ours.images(frames)
    assert torch.allclose(torch.nn.functional.normalize(embedded, dim=-1), seen, atol=1e-5)
    for prompt in PROMPTS:
        read = theirs.encode_text(tokenizer([prompt]), normalize=True)[0]
        score = similarity.text_alignment(embedded, ours.text(prompt))
        assert score.tolist() == pytest.approx((100 * seen @ read).tolist(), abs=1e-5 * 100), prompt
    assert similarity.smoothness(embedded) == pytest.approx(
        float(100 * ((seen @ seen.T).sum() - 5) / 20), abs=1e-5 * 100
    )
