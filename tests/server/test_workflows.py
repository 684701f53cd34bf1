"""Every shipped workflow renders, and its canvas form says the same as its API form."""

import json

import pytest
import small_models

import dev

NAMES = sorted(path.stem for path in (dev.ROOT / "workflows" / "api").glob("*.json"))
SMALL = {
    "DreamShaper_8_pruned.safetensors": "small_sd15.ckpt",
    "sd_xl_base_1.0.safetensors": "small_sdxl.ckpt",
    "v3_sd15_mm.ckpt": "small_sd15_v3.safetensors",
    "mm_sd_v15_v2.ckpt": "second_v2.safetensors",
    "hsxl_temporal_layers.f16.safetensors": "small_sdxl.safetensors",
    "v2_lora_ZoomIn.ckpt": "zoom.safetensors",
    "v2_lora_PanLeft.ckpt": "pan.safetensors",
    "v3_sd15_adapter.ckpt": "small_adapter.safetensors",
}


def api(name):
    return json.loads((dev.ROOT / "workflows" / "api" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_workflow_renders(host, name):
    small_models.write_sdxl_models(host.base / "models")
    for file, seed in (("zoom.safetensors", 1), ("pan.safetensors", 2)):
        lora = small_models.motion_lora_state_dict(mid=True, seed=seed)
        small_models.write(host.base / "models" / "animatediff_motion_lora", file, lora)
    small_models.write(
        host.base / "models" / "loras", "small_adapter.safetensors", small_models.domain_adapter_state_dict()
    )
    workflow = api(name)
    for node in workflow.values():
        node["inputs"] = {key: SMALL.get(v, v) if isinstance(v, str) else v for key, v in node["inputs"].items()}
    for key, value in {"width": 64, "height": 64, "batch_size": 4, "steps": 2}.items():
        dev.set_input(workflow, key, value)
    outputs = host.render(workflow)
    assert any(output.get("gifs") for output in outputs.values())


@pytest.mark.parametrize("name", NAMES)
def test_canvas_and_api_form_agree(host, name):
    canvas = json.loads((dev.ROOT / "workflows" / f"{name}.json").read_text())
    assert (dev.ROOT / "workflows" / f"{name}.jpg").stat().st_size > 10_000
    links = {link[0]: [str(link[1]), link[2]] for link in canvas["links"]}
    expected = api(name)
    drawn = {str(node["id"]): node for node in canvas["nodes"] if node["type"] != "MarkdownNote"}
    assert {key: node["type"] for key, node in drawn.items()} == {key: n["class_type"] for key, n in expected.items()}
    for key, node in drawn.items():
        inputs, values = {}, list(node["widgets_values"])
        for declared in node["inputs"]:
            if declared.get("link") is not None:
                inputs[declared["name"]] = links[declared["link"]]
            elif "widget" in declared:
                inputs[declared["name"]] = values.pop(0)
                if declared["name"] == "seed":
                    values.pop(0)  # control_after_generate, which only the canvas has
        assert inputs == expected[key]["inputs"], node["type"]
