"""A served ComfyUI that renders for tests and gives back what it wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from api_client import ApiClient
import pytest
from safetensors.torch import load_file
from served_host import ServedHost


@dataclass
class RenderingHost:
    served: ServedHost
    base: Path

    @property
    def client(self) -> ApiClient:
        return self.served.client

    def render(self, workflow: dict, **options) -> dict:
        return self.client.render(workflow, **options)["outputs"]

    def latents(self, workflow: dict) -> dict:
        """Render and read back what the workflow's SaveLatent nodes wrote, by node."""
        outputs = self.render(workflow)
        found = {}
        for node, output in outputs.items():
            for item in output.get("latents", []):
                path = self.base / "output" / item["subfolder"] / item["filename"]
                found[node] = load_file(path)["latent_tensor"]
        return found

    def failure(self, workflow: dict, **options) -> str:
        with pytest.raises(RuntimeError) as caught:
            self.render(workflow, **options)
        return str(caught.value)

    def interrupt(self, workflow: dict, when: Callable[[dict], bool]) -> None:
        """Render, but interrupt it as soon as a message of the server calls for it."""

        def watch(message: dict) -> None:
            if when(message):
                self.client.post("/interrupt", {})

        assert self.failure(workflow, watch=watch) == "the prompt was interrupted"
