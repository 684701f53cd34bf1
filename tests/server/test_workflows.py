"""Every shipped workflow renders, and its canvas form says the same as its API form."""

import json

from api_workflows import WORKFLOWS, api_workflow
import imageio_ffmpeg
import pytest
from small_templates import TEMPLATES, small_template, write_what_templates_name


@pytest.fixture(scope="module")
def files(host):
    write_what_templates_name(host.base)


@pytest.mark.parametrize("name", TEMPLATES)
def test_workflow_renders(host, files, name):
    workflow, frames = small_template(name)
    outputs = host.render(workflow)
    saved = [file for output in outputs.values() for file in output.get("gifs", [])]
    kinds = [node["class_type"] for node in workflow.values()]
    expected = [frames] * kinds.count("AnimaticVideoCombine")
    assert [imageio_ffmpeg.count_frames_and_secs(file["fullpath"])[0] for file in saved] == expected
    if name == "video_to_video":
        assert next(imageio_ffmpeg.read_frames(saved[0]["fullpath"]))["audio_codec"] == "aac"
    if name == "compare_methods":
        (table,) = outputs["40"]["text"]
        rows = [line.split("|")[1].strip() for line in table.splitlines()[2:5]]
        assert rows == ["AnimateDiff", "Text2Video-Zero", "stills"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_canvas_and_api_form_agree(name):
    canvas = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert (WORKFLOWS / f"{name}.jpg").stat().st_size > 10_000
    links = {link[0]: [str(link[1]), link[2]] for link in canvas["links"]}
    expected = api_workflow(name)
    drawn = {str(node["id"]): node for node in canvas["nodes"] if node["type"] != "MarkdownNote"}
    assert {key: node["type"] for key, node in drawn.items()} == {key: n["class_type"] for key, n in expected.items()}
    for key, node in drawn.items():
        inputs, values = {}, list(node["widgets_values"])
        for declared in node["inputs"]:
            if "widget" in declared:
                inputs[declared["name"]] = values.pop(0)  # it stands there even if the widget is linked
            if declared.get("link") is not None:
                inputs[declared["name"]] = links[declared["link"]]
            if declared["name"] == "seed":
                values.pop(0)  # control_after_generate, which only the canvas has
        inputs.pop("upload", None)  # the button of Load Image and Load Video, likewise
        assert inputs == expected[key]["inputs"] and not values, node["type"]
