"""Migrated workflows are taken by a served host, and render."""

from animatic_pack.migration.migrate import migrate
from animatic_pack.migration.targets import targets
from animatic_pack.nodes.host.core.replacements import REPLACEMENTS
import numpy as np
from old_workflows import controlled_clip, prompt_of, text_to_clip, travelling_prompts
from PIL import Image
import pytest
import small_models


@pytest.fixture(scope="module")
def files(host):
    models = host.base / "models"
    small_models.write(models / "controlnet", "small_controlnet.safetensors", small_models.controlnet_state_dict())
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(host.base / "input" / "image.png")


def kind_of(declared) -> str:
    return "COMBO" if isinstance(declared[0], list) else declared[0]


def test_targets_are_what_the_host_serves(host):
    served = host.client.get("/object_info")
    for name, row in targets().items():
        declared = served[name]["input"]
        inputs = {**declared.get("required", {}), **declared.get("optional", {})}
        assert [(one.name, one.kind) for one in row.inputs] == [(key, kind_of(one)) for key, one in inputs.items()]
        assert [kind for _, kind in row.outputs] == served[name]["output"]
        for one in row.inputs:
            options = inputs[one.name][1] if len(inputs[one.name]) > 1 else {}
            assert one.control_after_generate == bool(options.get("control_after_generate"))
            assert "default" not in options or one.default == options["default"]
            assert one.is_widget or one.kind.isupper(), "a socket"


@pytest.mark.parametrize(
    "workflow, kind",
    [
        (lambda: prompt_of(migrate(text_to_clip())[0]), "webp"),
        (lambda: prompt_of(migrate(controlled_clip())[0]), "gif"),
        (lambda: migrate(travelling_prompts())[0], "mp4"),
    ],
    ids=["one-node loader", "evolved sampling", "prompts"],
)
def test_migrated_workflow_renders(host, files, workflow, kind):
    (saved,) = [file for output in host.render(workflow()).values() for file in output.get("gifs", [])]
    assert saved["filename"].endswith(kind)


@pytest.fixture
def offered(host):
    """What the host replaces by itself."""
    try:
        return host.client.get("/node_replacements")
    except RuntimeError:
        pytest.skip("this ComfyUI does not replace nodes")


def test_host_replaces_what_was_registered(host, offered):
    for old, row in REPLACEMENTS.items():
        (entry,) = offered[old]
        assert entry["new_node_id"] == row.new
        given = {one["new_id"] for one in entry["input_mapping"]}
        wanted = {one.name for one in targets()[row.new].inputs}
        served = host.client.get(f"/object_info/{row.new}")[row.new]["input"]
        assert set(served.get("required", {})) <= given <= wanted


def test_host_runs_a_prompt_of_replaced_nodes(host, offered):
    combine = {"frame_rate": 8, "loop_count": 0, "filename_prefix": "old/replaced", "format": "image/gif"}
    size = {"width": 64, "height": 64, "batch_size": 3}
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "small_sd15.ckpt"}),
        "2": ("ADE_EmptyLatentImageLarge", size),
        "3": ("VHS_VAEDecodeBatched", {"samples": ["2", 0], "vae": ["1", 2], "per_batch": 2}),
        "4": ("ADE_AnimateDiffCombine", {"images": ["3", 0], **combine, "pingpong": False, "save_image": False}),
    }
    prompt = {number: {"class_type": name, "inputs": inputs, "_meta": {}} for number, (name, inputs) in nodes.items()}
    (saved,) = host.render(prompt)["4"]["gifs"]
    assert saved["filename"].endswith("gif")
