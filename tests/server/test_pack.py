"""The pack as the host sees it: how it loads, and what its nodes say about themselves."""

import re
import subprocess
import sys

from animatic_pack import ROOT, dev

PROBE = """
import sys, importlib.util
sys.argv = ["probe", "--cpu"]
sys.path.insert(0, {host!r})
import comfy.options
comfy.options.enable_args_parsing()
import comfy.sd, comfy.samplers, comfy.controlnet, comfy_execution.utils, comfy_execution.graph_utils
import folder_paths, comfy.utils, PIL.Image, PIL.PngImagePlugin, inspect, subprocess, tempfile
before = set(sys.modules)
root = {root!r}
init = root + "/__init__.py"
spec = importlib.util.spec_from_file_location("pack_under_test", init, submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules["pack_under_test"] = module
spec.loader.exec_module(module)
print("packages", *sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""


def test_import_brings_nothing_heavy():
    """What takes time when ComfyUI starts is what a pack imports."""
    host = str(dev.find_host())
    code = PROBE.format(host=host, root=str(ROOT))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=host)
    packages = re.search(r"packages(.*)", run.stdout)[1].split()
    assert set(packages) <= {"pack_under_test", "imageio_ffmpeg", "numpy", "PIL"}


def test_the_host_imports_it(host):
    log = host.served.log()
    assert re.search(r"seconds: .*ComfyUI-Animatic", log) and not re.search(r"IMPORT FAILED.*ComfyUI-Animatic", log)


def test_every_input_and_output_explains_itself(host):
    nodes = {key: value for key, value in host.client.get("/object_info").items() if key.startswith("Animatic")}
    names = (
        "ContextOptions",
        "LoadMotionModule",
        "ApplyMotionModule",
        "VideoCombine",
        "LoadMotionLora",
        "MotionLoraSchedule",
        "ApplyDomainAdapter",
    )
    names += ("CombineMotionLoras", "ExtractMotionLora", "MergeMotionModules", "SaveMotionLora", "SaveMotionModule")
    names += ("MotionControl", "MotionImage", "StartFromImage", "PromptTravel", "PreviewContext", "FreeInit")
    names += ("ControlStrength", "LoadSparseCtrl", "LoadVideo", "LoadImageSequence")
    names += ("CfgSchedule", "FrameNoise", "FrameNumbers", "WindowReference", "ReferenceImage")
    names += ("VideoDataset", "CameraMotionClips", "TrainMotionLora", "TrainDomainAdapter", "TrainMotionModule")
    names += ("TrainingOptions", "TrainingCurve", "PoseClips", "TrainAnimateAnyone", "TrainAnimateAnyoneMotion")
    names += ("LoadReferenceNet", "LoadPoseGuider", "ApplyAnimateAnyone", "AnimateAnyoneSampling")
    names += ("DrawPose", "AlignPose")
    names += ("EvaluateAnimation", "CompareAnimations", "OpticalFlowPreview", "ContactSheet", "Text2VideoZero")
    names += ("TrainTuneAVideo", "ApplyTuneAVideo")
    assert set(nodes) == {f"Animatic{name}" for name in names}
    for name, node in nodes.items():
        assert node["description"] and node["category"].startswith("Animatic") and node["display_name"] != name
        assert len(node["output_tooltips"]) == len(node["output"])
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        shown = [key for key, declared in inputs.items() if not declared[1].get("advanced")]
        assert len(shown) <= 12, f"{name} is more than a screen shows"
        for key, declared in inputs.items():
            assert declared[1].get("tooltip"), f"{name}.{key}"


def test_only_weight_files_are_offered(host):
    folder = host.base / "models" / "animatediff_models"
    (folder / "notes.txt").write_text("not a model")
    offered = host.client.get("/object_info/AnimaticLoadMotionModule")["AnimaticLoadMotionModule"]["input"]["required"]
    names = offered["motion_module"][0]
    assert "small_sd15_v3.safetensors" in names and "notes.txt" not in names


def test_help_pages_and_templates_are_served(host):
    for name in host.client.get("/object_info"):
        if name.startswith("Animatic"):
            assert host.client.request("GET", f"/extensions/ComfyUI-Animatic/docs/{name}.md")
    templates = host.client.get("/workflow_templates")["ComfyUI-Animatic"]
    assert {"text_to_animation", "text_to_animation_sdxl"} <= set(templates)


def test_translations_are_served(host):
    served = host.client.get("/i18n")
    for language, title in {
        "ja": "\u52d5\u753b",
        "ko": "\ube44\ub514\uc624",
        "zh": "\u89c6\u9891",
        "zh-TW": "\u5f71\u7247",
    }.items():
        assert title in served[language]["nodeDefs"]["AnimaticVideoCombine"]["display_name"]
