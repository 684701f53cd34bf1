"""Workflows of other packs become workflows of this one, and nothing is lost without a word."""

import copy
import json
import os
import subprocess
import sys

from animatic_pack import ROOT
from animatic_pack.migration.migrate import UNKNOWN, migrate
from animatic_pack.migration.old_nodes import OLD_NODES
from animatic_pack.migration.old_values import read_values
from animatic_pack.migration.rules import ADVICE, CARRIED, RULES
from animatic_pack.migration.targets import targets
from old_workflows import BYPASSED, MUTED, controlled_clip, drawn, prompt_of, text_to_clip, travelling_prompts
import pytest


def inputs(workflow: dict, node_type: str) -> dict:
    (found,) = [node["inputs"] for node in workflow.values() if node["class_type"] == node_type]
    return found


def said(remarks: list, kind: str) -> str:
    return "\n".join(str(one) for one in remarks if one.kind == kind)


def test_one_node_loader_becomes_load_apply_and_context():
    before = text_to_clip()
    kept = copy.deepcopy(before)
    after, remarks = migrate(before)
    prompt = prompt_of(after)
    assert before == kept
    assert not {node["class_type"] for node in prompt.values()} & set(OLD_NODES)
    loaded = inputs(prompt, "AnimaticLoadMotionModule")
    assert loaded["motion_module"] == "small_sd15_v3.safetensors" and loaded["v2_norms_as_v1"] is True
    applied = inputs(prompt, "AnimaticApplyMotionModule")
    assert (applied["motion_scale"], applied["beta_schedule"]) == (1.2, "sqrt_linear (AnimateDiff)")
    assert "motion_lora" not in applied, "it was muted"
    context = inputs(prompt, "AnimaticContextOptions")
    names = ("context_length", "context_overlap", "context_schedule", "fuse_method")
    assert [context[name] for name in names] == [4, 1, "uniform looped, open", "flat"]
    assert prompt["10"]["inputs"]["model"] == [number_of(prompt, "AnimaticContextOptions"), 0]
    assert prompt["5"]["inputs"]["batch_size"] == 6, "from the Primitive"
    combined = prompt["12"]["inputs"]
    assert (combined["frame_rate"], combined["pingpong"], combined["save_output"]) == (12, True, False)
    assert not said(remarks, "lost") and not said(remarks, "kept")


def number_of(workflow: dict, node_type: str) -> str:
    (found,) = [number for number, node in workflow.items() if node["class_type"] == node_type]
    return found


def test_muted_lora_stays_muted_and_idle_reroutes_go():
    after, _ = migrate(text_to_clip())
    modes = {node["type"]: node["mode"] for node in after["nodes"]}
    assert modes["AnimaticLoadMotionLora"] == MUTED
    assert "Reroute" not in modes and "PrimitiveNode" in modes


def test_bypassed_loader_lets_the_model_through():
    before = text_to_clip()
    next(node for node in before["nodes"] if node["id"] == 9)["mode"] = BYPASSED
    prompt = prompt_of(migrate(before)[0])
    assert prompt["10"]["inputs"]["model"] == ["1", 0]


def test_links_of_a_canvas_agree_with_its_sockets():
    for before in (text_to_clip(), controlled_clip()):
        after, _ = migrate(before)
        nodes = {node["id"]: node for node in after["nodes"]}
        assert len(nodes) == len(after["nodes"]) and after["last_node_id"] == max(nodes)
        for link in after["links"]:
            number, origin, slot, goal, place, _ = link.values() if isinstance(link, dict) else link
            assert nodes[goal]["inputs"][place]["link"] == number
            assert number in nodes[origin]["outputs"][slot]["links"]
        linked = [one["link"] for node in nodes.values() for one in node.get("inputs", []) if one["link"]]
        assert len(linked) == len(after["links"]) == len(set(linked))


def test_links_of_a_primitive_stay_in_order():
    """The page makes its widget from the first, which may be the only one to a node that is installed."""
    before = drawn(
        {
            1: ("PrimitiveNode", {}, [4, "fixed"], ["INT"]),
            2: ("ADE_AnimateDiffUniformContextOptions", {"context_length": (1, 0)}, [16, 1, 1, "uniform", True], ["C"]),
            3: ("CheckpointLoaderSimple", {}, ["small_sd15.ckpt"], ["MODEL", "CLIP", "VAE"]),
            4: ("SomebodyElsesNode", {"context_length": (1, 0)}, [], []),
            5: ("ADE_AnimateDiffLoaderWithContext", {"model": (3, 0), "context_options": (2, 0)}, ["m", "auto"], ["M"]),
            6: ("KSampler", {"model": (5, 0), "steps": (1, 0)}, [0, "fixed", 20, 8, "euler", "normal", 1], ["LATENT"]),
        }
    )
    primitive = before["nodes"][0]
    numbers = [number for number, origin, *_ in before["links"] if origin == 1]
    primitive["outputs"][0]["links"] = numbers
    after, _ = migrate(before)
    goals = {number: goal for number, _, _, goal, *_ in after["links"]}
    types = {node["id"]: node["type"] for node in after["nodes"]}
    (kept,) = [node["outputs"][0]["links"] for node in after["nodes"] if node["id"] == 1]
    assert [types[goals[number]] for number in kept] == ["AnimaticContextOptions", "SomebodyElsesNode", "KSampler"]


def test_evolved_sampling_and_controlnet_keyframes():
    after, remarks = migrate(controlled_clip())
    assert all(isinstance(link, dict) for link in after["links"])
    prompt = prompt_of(after)
    strength = inputs(prompt, "AnimaticControlStrength")
    assert strength["by_frame"] == "0: 0.2, 1: 1, 2: 0.75, 3: 0.5, 4: 0.2" and strength["curve"] == "step"
    assert (strength["soft_base"], strength["soft_flip"]) == (0.825, True)
    assert prompt["17"]["inputs"]["strength"] == 0.7 and prompt["17"]["inputs"]["end_percent"] == 0.5
    assert inputs(prompt, "AnimaticCfgSchedule")["by_step"] == "3.5"
    assert inputs(prompt, "AnimaticContextOptions")["free_noise"] is True
    assert inputs(prompt, "AnimaticApplyMotionModule")["motion_scale"] == 1.1
    assert prompt["18"]["inputs"]["positive"] == [number_of(prompt, "AnimaticControlStrength"), 0]
    assert not said(remarks, "lost")


def test_api_form_with_negative_prompts_in_a_schedule():
    after, remarks = migrate(travelling_prompts())
    travel = inputs(after, "AnimaticPromptTravel")
    assert travel["prompts"] == '"0" :"spring",\n"3" :"winter",'
    assert travel["negative_prompts"] == '"0": "snow",\n"3": "",'
    assert (travel["prefix"], travel["num_frames"]) == ("a tree, ", 4)
    combine = after["7"]
    assert combine["class_type"] == "AnimaticVideoCombine" and combine["inputs"]["crf"] == 20
    assert combine["inputs"]["save_metadata"] is False
    assert after["5"]["inputs"]["model"] == ["4", 0] and after["4"]["class_type"] == "AnimaticApplyMotionModule"
    assert not said(remarks, "lost")


def test_inside_a_subgraph():
    inner = text_to_clip()
    inner.update({"id": "a-b", "name": "Clip", "inputNode": {"id": -10}, "outputNode": {"id": -20}})
    inner.update({"inputs": [], "outputs": [{"id": "o", "name": "pictures", "type": "IMAGE", "linkIds": [99]}]})
    inner["links"].append([99, 11, 0, -20, 0, "IMAGE"])
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    inner["links"] = [dict(zip(names, link, strict=True)) for link in inner["links"]]
    outer = {"nodes": [{"id": 1, "type": "a-b"}], "links": [], "definitions": {"subgraphs": [inner]}}
    after, remarks = migrate(outer)
    (part,) = after["definitions"]["subgraphs"]
    assert "subgraph 'Clip', node 9" in said(remarks, "replaced")
    (end,) = [link for link in part["links"] if link["target_id"] == -20]
    assert end["origin_id"] == 11 and part["outputs"][0]["linkIds"] == [end["id"]]
    assert after["nodes"] == outer["nodes"]


def test_nothing_to_do_changes_nothing():
    plain = drawn({1: ("LoadImage", {}, ["a.png"], ["IMAGE"]), 2: ("SaveImage", {"images": (1, 0)}, ["x"], [])})
    assert migrate(plain) == (plain, [])


@pytest.mark.parametrize(
    "node, kind, words",
    [
        (("VHS_VideoCombine", {}, {"format": "video/of-somebody"}, []), "lost", "video/of-somebody"),
        (("VHS_VideoCombine", {}, {"format": "image/gif", "trim_to_audio": True}, []), "lost", "trim_to_audio"),
        (("ADE_AnimateDiffLoaderGen1", {}, ["a", "squaredcos_cap_v2"], []), "lost", "squaredcos_cap_v2"),
        (("ACN_SparseCtrlLoaderAdvanced", {}, ["a", True, 1, 1, "off", 1, 1, 1], []), "lost", "context_aware 'off'"),
        (("VHS_LoadVideoPath", {}, {"video": "/somewhere/a.mp4"}, []), "lost", "input folder, where 'a.mp4'"),
        (
            ("BatchPromptSchedule", {}, ['"0": "`pw_a`"', 8, False, "", "", 0, 1, 0, 0, 0], []),
            "lost",
            "[0, 1, 0, 0, 0]",
        ),
        (("VHS_BatchManager", {}, {}, []), "kept", "Context Options"),
        (("ADE_NoiseLayerReplace", {}, [], []), "kept", "no equal"),
        (("AnimateDiffLoaderWithContext", {}, [], []), "never existed", "never ran"),
        (("ADE_standardAnimateDiffModel", {}, [], []), "never existed", "never ran"),
    ],
)
def test_what_has_no_equal_is_named_with_its_node(node, kind, words):
    _, remarks = migrate(drawn({7: node}))
    assert "node 7, " in said(remarks, kind) and words in said(remarks, kind)


def test_input_that_no_release_had():
    workflow = {"3": {"class_type": "ControlNetLoaderAdvanced", "inputs": {"control_net_name": "a", "adapter": 1}}}
    after, remarks = migrate(workflow)
    assert "node 3, ControlNetLoaderAdvanced: has an input 'adapter'" in said(remarks, "never existed")
    assert after["3"] == {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "a"}}


@pytest.mark.parametrize(
    "size, expected",
    [("Disabled", (0, 0)), ("512x?", (512, 0)), ("Custom Height", (0, 400)), ("", (300, 400)), ("256x256", (256, 256))],
)
def test_forced_size_of_a_video(size, expected):
    values = {"video": "a.mp4", "force_size": size, "custom_width": 300, "custom_height": 400, "select_every_nth": 0}
    after, _ = migrate(drawn({1: ("VHS_LoadVideo", {}, values, ["IMAGE"])}))
    loaded = prompt_of(after)["1"]["inputs"]
    assert (loaded["width"], loaded["height"], loaded["select_every_nth"]) == (*expected, 1)


@pytest.mark.parametrize("kind, plug", [("LATENT", "latent"), ("IMAGE", "images")])
def test_what_is_combined_with_a_vae(kind, plug):
    nodes = {
        1: ("VAELoader", {}, ["a.safetensors"], ["VAE"]),
        2: ("SomeNode", {}, [], [kind]),
        3: ("VHS_VideoCombine", {"images": (2, 0), "vae": (1, 0)}, {"frame_rate": 8}, ["VHS_FILENAMES"]),
    }
    given = prompt_of(migrate(drawn(nodes))[0])["3"]["inputs"]
    links = {name: value for name, value in given.items() if isinstance(value, list)}
    assert links == {plug: ["2", 0]} | ({"vae": ["1", 0]} if kind == "LATENT" else {})


def test_split_and_counts_read_stock_nodes():
    nodes = {
        1: ("LoadImage", {}, ["a.png"], ["IMAGE", "MASK"]),
        2: ("VHS_SplitImages", {"images": (1, 0)}, {"split_index": 3}, ["IMAGE", "INT", "IMAGE", "INT"]),
        3: ("SaveImage", {"images": (2, 0)}, ["x"], []),
        4: ("SomeNode", {"number": (2, 3)}, [], []),
    }
    prompt = prompt_of(migrate(drawn(nodes))[0])
    assert prompt["3"]["inputs"]["images"] == ["2", 0]
    assert (prompt["2"]["inputs"]["batch_index"], prompt["2"]["inputs"]["length"]) == (0, 3)
    size = prompt[prompt["4"]["inputs"]["number"][0]]
    assert size["class_type"] == "GetImageSize" and prompt["4"]["inputs"]["number"][1] == 2
    rest = prompt[size["inputs"]["image"][0]]["inputs"]
    assert rest["batch_index"] == 3


def test_a_link_from_nowhere_leaves_the_number_of_the_widget():
    nodes = {
        1: ("SomeNode", {}, [], ["IMAGE"]),
        2: ("Reroute", {}, [], ["*"]),
        3: ("VHS_SplitImages", {"images": (1, 0), "split_index": (2, 0)}, {"split_index": 3}, ["IMAGE", "INT"] * 2),
        4: ("SaveImage", {"images": (3, 2)}, ["x"], []),
    }
    prompt = prompt_of(migrate(drawn(nodes))[0])
    assert prompt["3"]["inputs"]["batch_index"] == 3


@pytest.mark.parametrize(
    "text, by_frame",
    [
        ("0:(0), 7:(1), 15:(0)", "0: 0, 7: 1, 15: 0"),
        ("0:(1.3),\r\n10:(sin(t/2)),\n", "0: 1.3, 10: sin(t/2)"),
        ('"0" : ((t+1)*2), "max_f-1":(max(t, 3))', "0: (t+1)*2, max_f-1: max(t, 3)"),
        ("0: 1.3", "0: 1.3"),
    ],
)
def test_numbers_in_brackets(text, by_frame):
    after, _ = migrate({"1": {"class_type": "BatchValueSchedule", "inputs": {"text": text, "max_frames": 16}}})
    assert after["1"]["inputs"]["by_frame"] == by_frame


def test_lists_of_early_releases():
    values, odd = read_values("ADE_AnimateDiffSamplingSettings", [0, "FreeNoise", "comfy", 5, True])
    assert (values["seed_offset"], values["adapt_denoise_steps"]) == (5, True) and not odd
    values, _ = read_values("AnimateDiffCombine", [8, 0, "Enabled", "mine"])
    assert (values["save_image"], values["filename_prefix"], values["format"]) == (True, "mine", "image/gif")
    values, _ = read_values("VHS_LoadVideo", ["a.mp4", 12, "Disabled", 90, 0, "video"])
    assert (values["force_rate"], values["select_every_nth"]) == (12, 1)


def test_every_row_names_nodes_that_there_are():
    for rule in RULES.values():
        assert set(rule.becomes.split()) <= set(targets())
    for becomes in CARRIED.values():
        assert set(becomes.split()) <= set(targets())
    assert set(RULES) | set(CARRIED) == set(OLD_NODES) and not set(ADVICE) & set(OLD_NODES)


def test_the_57_most_used_nodes_all_have_a_row():
    lines = (ROOT / "docs" / "other_packs.md").read_text(encoding="ascii").splitlines()
    rows = [line.strip("|").split("|")[0].strip() for line in lines if line.startswith("|")][2:]
    assert set(rows) <= set(OLD_NODES) | UNKNOWN


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"a": 1}',
        "{",
        '{"nodes": [{"id": 1}], "links": [[1, 2]]}',
        '{"1": {"class_type": "A", "inputs": [1]}}',
        '{"1": {"class_type": [], "inputs": {}}}',
    ],
)
def test_command_says_what_is_no_workflow(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    done = run(tmp_path / "a.json")
    assert done.returncode == 1 and "a.json: " in done.stderr and "Traceback" not in done.stderr


def run(*arguments, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "migration", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **variables})


def test_command_writes_and_reports(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(text_to_clip()))
    done = run(tmp_path / "old.json", tmp_path / "new.json")
    assert done.returncode == 0, done.stderr
    assert "node 12, VHS_VideoCombine: AnimaticVideoCombine" in done.stdout
    assert json.loads((tmp_path / "new.json").read_text()) == migrate(text_to_clip())[0]
    again = run(tmp_path / "new.json")
    assert again.returncode == 0 and "Nothing to do" in again.stdout


def test_command_writes_over_the_file_itself_whatever_its_texts_hold(tmp_path):
    path = tmp_path / "old.json"
    old = text_to_clip()
    old["nodes"][0]["title"] = "\ud83d \u52d5\u753b"  # half an emoji, and two characters
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(old).encode())
    done = run(path, path)
    assert done.returncode == 0, done.stderr
    new = path.read_bytes()
    assert json.loads(new) == migrate(old)[0] and "\u52d5\u753b".encode() in new
    assert list(tmp_path.iterdir()) == [path]


def test_command_reports_names_that_the_terminal_cannot_show(tmp_path):
    old = {"1": {"class_type": "VHS_LoadVideoPath", "inputs": {"video": "C:\\\u52d5\u753b.mp4"}}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    done = run(tmp_path / "old.json", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and "\\u52d5\\u753b.mp4" in done.stdout, done.stderr


def test_the_documented_table_is_the_code():
    lines = (ROOT / "docs" / "migration.md").read_text(encoding="ascii").splitlines()
    rows = {}
    for line in lines:
        if line.startswith("| ") and not line.startswith("| old node"):
            name, becomes = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name] = becomes
    assert set(rows) == set(RULES) | set(CARRIED) | set(ADVICE)
    for name, rule in RULES.items():
        assert rows[name] == ", ".join(rule.becomes.split()) or not rule.becomes
    for name, becomes in CARRIED.items():
        assert rows[name] == ("its settings go to " + ", ".join(becomes.split()) if becomes else "taken out")
    for name, advice in ADVICE.items():
        assert rows[name] == f"not replaced: {advice}"
