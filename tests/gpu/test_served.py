"""The same latents from a served ComfyUI, however it manages the card's memory.

One clip after another in each server, plain and with schedules that take turns: where the host's dynamic memory
manager is on, it keeps what it remembers of a model for all of them.
"""

from animatic_pack import dev
import comfy.cli_args
import pytest
from reference import FP16_BOUND, errors_by_frame
from rendering_host import RenderingHost
from served_host import serve
import small_models
from small_workflows import latent_workflow

pytest.importorskip("imageio_ffmpeg", reason="the served pack imports imageio-ffmpeg")

PLAIN = "plain"
ORDER = (PLAIN, "auto", PLAIN, "lcm (AnimateLCM)", PLAIN, "linear (AnimateDiff SDXL)")
WAYS = {
    "as it comes": [],
    "lowvram": ["--lowvram"],
    "dynamic VRAM off": ["--disable-dynamic-vram"],
}


def clip(host, schedule, seed):
    """Each of its own seed, or the host would give back what it has rendered before."""
    workflow = latent_workflow(batch_size=16, seed=seed, steps=4)
    if schedule == PLAIN:
        workflow["7"]["inputs"]["model"] = ["1", 0]
    else:
        workflow["3"]["inputs"]["beta_schedule"] = schedule
    return host.latents(workflow)["10"]


def clips(flags):
    """All of `ORDER` from one server."""
    base = dev.base_directory("gpu")
    small_models.write_demo_models(base / "models")
    with serve(dev.find_host(), base, flags) as served:
        host = RenderingHost(served, base)
        return [clip(host, schedule, seed) for seed, schedule in enumerate(ORDER)]


@pytest.fixture(scope="module")
def expected():
    """From one in which nothing stays on the card, and nothing is remembered, between two clips."""
    return clips(["--novram"])


@pytest.mark.parametrize("way", WAYS)
def test_latents_are_the_same(expected, way):
    if way == "dynamic VRAM off" and not hasattr(comfy.cli_args.args, "disable_dynamic_vram"):
        pytest.skip("this ComfyUI has no dynamic VRAM")
    for schedule, one, other in zip(ORDER, clips(WAYS[way]), expected, strict=True):
        assert one.isfinite().all() and max(errors_by_frame(one, other)) < FP16_BOUND, schedule
