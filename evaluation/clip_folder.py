"""A whole CLIP, with its text side, from a folder on this disk; nothing is ever downloaded.

The text encoder of a Stable Diffusion checkpoint has no projection into the space that pictures share, so that a score
against the prompt needs a CLIP of its own: the folder of a Hugging Face repository such as clip-vit-large-patch14.
"""

from pathlib import Path

from safetensors import SafetensorError
import torch
from torch import Tensor

BATCH = 16  # frames at a time
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # without, transformers makes one that knows no words


class ClipFolder:
    """Embeddings by transformers' CLIPModel, in float32."""

    def __init__(self, folder: Path, device: torch.device | None = None):
        """Raises FileNotFoundError without config.json in the folder, RuntimeError without transformers, and
        ValueError for a folder that holds no whole CLIP.
        """
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder} is no CLIP folder: there is no config.json in it. Download all files of a repository such "
                "as openai/clip-vit-large-patch14 into one folder, and name that folder."
            )
        if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
            raise ValueError(
                f"{folder} holds no whole CLIP: neither tokenizer.json nor vocab.json with merges.txt is in it."
            )
        try:
            from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
        except ImportError:
            raise RuntimeError("A CLIP folder is read by transformers: pip install transformers") from None
        self.device = device or torch.device("cpu")
        try:
            model, report = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder} holds no whole CLIP: {error}") from error
        if report["missing_keys"]:
            raise ValueError(f"{folder} holds no whole CLIP: its weights lack {sorted(report['missing_keys'])[0]}.")
        self.model = model.float().eval().to(self.device)

    def images(self, clip: Tensor) -> Tensor:
        """(F, h, w, 3) in 0..1 to (F, D)."""
        return torch.cat([self._embedded(part) for part in clip.split(BATCH)])

    def text(self, prompt: str) -> Tensor:
        """(D,); what is longer than the text encoder reads is cut off."""
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(prompt, truncation=True, max_length=limit, return_tensors="pt").to(self.device)
        with torch.no_grad():
            pooled = self.model.text_model(**tokens).pooler_output
            return self.model.text_projection(pooled)[0].cpu()

    def _embedded(self, frames: Tensor) -> Tensor:
        pixels = self.processor(list(frames.permute(0, 3, 1, 2)), do_rescale=False, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            pooled = self.model.vision_model(pixels.to(self.device)).pooler_output
            return self.model.visual_projection(pooled).cpu()
