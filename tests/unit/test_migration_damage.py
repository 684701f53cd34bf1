"""Workflow files in which something of another kind stands than belongs there: a message, or passed over."""

from collections.abc import Iterator
import copy
import json
import random

from animatic_pack.migration.command_line import main
from animatic_pack.migration.migrate import migrate
from old_workflows import controlled_clip, drawn, text_to_clip, travelling_prompts
import pytest

WRONG = (None, "x", 5, 1.5, -1, [], {}, ["x"], [None], {"0": 1}, float("inf"))


def inside_a_subgraph() -> dict:
    """With group nodes and way points, as pages keep them."""
    inner = controlled_clip()
    inner.update({"id": "a-b", "name": "Clip", "inputNode": {"id": -10}, "outputNode": {"id": -20}})
    inner.update({"inputs": [{"name": "x", "type": "INT"}], "outputs": [{"name": "pictures", "type": "IMAGE"}]})
    inner["links"].append([99, 19, 0, -20, 0, "IMAGE"])
    inner.update({"state": {"lastNodeId": 20, "lastLinkId": 99}, "reroutes": [{"id": 1, "linkIds": [99]}]})
    extra = {"groupNodes": {"group": {"nodes": [{"type": "VHS_VideoCombine"}]}}}
    return {"nodes": [{"id": 1, "type": "a-b"}], "links": [], "definitions": {"subgraphs": [inner]}, "extra": extra}


def with_the_rest() -> dict:
    extra = {"linkExtensions": [{"id": 1, "parentId": 2}], "reroutes": [{"id": 1, "linkIds": [1]}]}
    return {**text_to_clip(), "extra": extra, "state": {}}


def places(content, place=()) -> Iterator[tuple]:
    if place:
        yield place
    for name in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from places(content[name], (*place, name))


def spoilt(content: dict, place: tuple, wrong) -> dict:
    content = copy.deepcopy(content)
    holder = content
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = copy.deepcopy(wrong)
    return content


@pytest.mark.parametrize("made", [with_the_rest, inside_a_subgraph, travelling_prompts])
def test_no_place_ends_in_anything_but_a_message(made):
    spoilings = [(place, wrong) for place in places(made()) for wrong in WRONG]
    random.Random(0).shuffle(spoilings)
    for place, wrong in spoilings[:600]:
        try:
            result, remarks = migrate(spoilt(made(), place, wrong))
        except ValueError as error:
            assert str(error).startswith(("The workflow is damaged: ", "This is no ComfyUI workflow"))
        else:
            assert json.dumps(result) and all(map(str, remarks))


@pytest.mark.parametrize(
    "place, wrong, words",
    [
        (("definitions",), "x", "definitions is text, where an object belongs"),
        (("definitions", "subgraphs"), 5, "definitions.subgraphs is a number, where a list belongs"),
        (("definitions", "subgraphs", 0), None, "definitions.subgraphs[0] is nothing, where an object belongs"),
        (("definitions", "subgraphs", 0, "links", 3), ["x"], "definitions.subgraphs[0].links[3] has 1 values, not 6"),
        (("links",), {"1": []}, "links is an object, where a list belongs"),
        (("links",), [[1, [], 0, 2, 0, "INT"]], "links[0].origin_id is a list, where a number or text belongs"),
        (("nodes", 0, "id"), None, "nodes[0].id is nothing, where a number or text belongs"),
        (("nodes", 0, "inputs"), [{"name": 5}], "nodes[0].inputs[0].name is a number, where text belongs"),
    ],
)
def test_message_names_the_place_and_a_way_out(place, wrong, words, tmp_path, capsys):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(spoilt(inside_a_subgraph(), place, wrong)))
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert words in said and "Open it on ComfyUI's page and save it anew" in said


def test_nodes_of_another_kind_are_no_workflow(tmp_path, capsys):
    for wrong in (None, "x", 5, {}):
        (tmp_path / "old.json").write_text(json.dumps({**text_to_clip(), "nodes": wrong}))
        assert main([str(tmp_path / "old.json")]) == 1
        assert "This is no ComfyUI workflow" in capsys.readouterr().err


NO_GROUPS = {"a": None, "b": {"nodes": 5}, "c": {"nodes": [None, {"type": []}]}}


@pytest.mark.parametrize("extra", [None, [], "x", 5, {"groupNodes": "x"}, {"groupNodes": NO_GROUPS}])
def test_odd_extras_are_passed_over(extra):
    after, remarks = migrate({**text_to_clip(), "extra": extra, "last_node_id": "many"})
    assert after["extra"] == extra and after["last_node_id"] > 12
    assert [node["type"] for node in after["nodes"]] == [node["type"] for node in migrate(text_to_clip())[0]["nodes"]]
    assert remarks == migrate(text_to_clip())[1]


def test_values_of_a_wrong_kind_are_named_and_replaced():
    loader = {"model": (1, 0), "context_options": (2, 0)}
    nodes = {
        1: ("CheckpointLoaderSimple", {}, ["a"], ["MODEL", "CLIP", "VAE"]),
        2: ("ADE_StandardStaticContextOptions", {}, [[12], "6", "pyramid", False, 0, 1], ["CONTEXT_OPTIONS"]),
        3: ("ADE_AnimateDiffLoaderWithContext", loader, ["m", ["lcm"], 1, True], ["MODEL"]),
        4: ("KSampler", {"model": (3, 0)}, [], ["LATENT"]),
        5: ("VHS_VideoCombine", {}, {"format": {}, "crf": "best"}, []),
    }
    after, remarks = migrate(drawn(nodes))
    lost = [f"node {one.node}: {one.text}" for one in remarks if one.kind == "lost"]
    assert lost == [
        "node 2: context_length [12] is of a wrong kind; 16 stands there now",
        "node 3: beta_schedule ['lcm'] is of a wrong kind; 'autoselect' stands there now",
        "node 5: format {} is of a wrong kind; 'image/gif' stands there now",
        "node 5: crf 'best' is no number; Video Combine's own stands there now",
    ]
    (context,) = [node for node in after["nodes"] if node["type"] == "AnimaticContextOptions"]
    assert context["widgets_values"][:2] == [16, 6], "numbers that are sent as text count"
