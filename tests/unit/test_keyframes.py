"""The little language of text inputs: numbers and prompts by position."""

import math

from animatic_pack.nodes.timeline.keyframes import (
    CURVES,
    Keyframes,
    doubts,
    neighbours,
    parse_numbers,
    parse_prompts,
)
import pytest
import torch


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1", [1, 1, 1, 1, 1]),
        ("-.5", [-0.5] * 5),
        ("1, 0.9, 0.8", [1, 0.9, 0.8, 0.8, 0.8]),
        ("1\n0.5", [1, 0.5, 0.5, 0.5, 0.5]),
        ("0: 1, 4: 0", [1, 0.75, 0.5, 0.25, 0]),
        ("3: 2; 1: 0", [0, 0, 1, 2, 2]),
        ("0:1\n2:3,", [1, 2, 3, 3, 3]),
        ("\uff10\uff1a\uff11\uff0c\uff14\uff1a\uff10", [1, 0.75, 0.5, 0.25, 0]),
        ("\u22121\u30010\uff0e5\uff1b\u3000\uff0d2", [-1, 0.5, -2, -2, -2]),
    ],
)
def test_numbers(text, expected):
    assert parse_numbers(text, "x").over(range(5)) == pytest.approx(expected)


def test_positions_of_the_sampling_range():
    assert parse_numbers("0: 1, 0.5: 0.3", "by_step", end=1.0).at(0.25) == pytest.approx(0.65)
    with pytest.raises(ValueError, match="position 50 is outside the range, which begins at 0 and ends at 1\\."):
        parse_numbers("0: 1, 50: 0", "by_step", end=1.0)


@pytest.mark.parametrize("text", ["1, 0.5, 0.2", "", "1, x"])
def test_positions_of_the_sampling_range_are_asked_for(text):
    """A list by frame has no end to run to, and its advice would name frames."""
    with pytest.raises(ValueError, match="by_step.*positions along sampling, from 0 to 1, .*0: 1, 0.5: 0.3"):
        parse_numbers(text, "by_step", end=1.0)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "a", "1, b", "0: 1, 2", "1, 2: 3", "-1: 0", "0: 1, -1: 0", "1:", ": 1", "0: 1, 0: 2", "1e3x", "1 2"],
)
def test_numbers_that_are_not_understood_are_named(text):
    with pytest.raises(ValueError, match="effect"):
        parse_numbers(text, "effect")


@pytest.mark.parametrize("curve", CURVES)
def test_curves_meet_their_keys(curve):
    keys = Keyframes((0, 8), (1.0, 3.0), curve)
    assert (keys.at(0), keys.at(8), keys.at(100)) == (1, 3, 3)
    assert 1 <= keys.at(4) <= 3


@pytest.mark.parametrize("positions", [[0, 8], [3, 5, 12], [7], [0, 15], [2, 20]])
def test_a_loop_meets_its_keys(positions):
    for at in range(16):
        before, _, share = neighbours(positions, at, period=16)
        assert 0 <= share < 1
        if at in positions:
            assert positions[before] == at and share == 0


@pytest.mark.parametrize(
    "positions, at, expected",
    [
        ([0, 8], 12, (1, 0, 0.5)),
        ([3, 5, 12], 14, (2, 0, 2 / 7)),
        ([3, 5, 12], 1, (2, 0, 5 / 7)),
        ([3, 5, 12], 4, (0, 1, 0.5)),
        ([7], 3, (0, 0, 0.0)),
        ([2, 20], 1, (0, 0, 0.0)),
    ],
)
def test_a_loop_runs_from_the_last_into_the_first(positions, at, expected):
    assert neighbours(positions, at, period=16) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {0: ""}),
        ("a cat", {0: "a cat"}),
        ("0: a cat\n8: a (dog:1.2), 16:9", {0: "a cat", 8: "a (dog:1.2), 16:9"}),
        ("\n8: b\n0: a\n", {0: "a", 8: "b"}),
        ("0: a,\nmore of it\n4: b", {0: "a, more of it", 4: "b"}),
        ('"0": "a cat",\n"12": "a dog"', {0: "a cat", 12: "a dog"}),
        ('"0": "a cat, \'x\': y", "12": "a dog" "16":"c",', {0: "a cat, 'x': y", 12: "a dog", 16: "c"}),
        ("\u201c0\u201d: \u201ca\u201d,\n\uff028\uff02\uff1a\uff02b\uff02\uff0c", {0: "a", 8: "b"}),
        ('0: a "sign", "8": b', {0: 'a "sign", "8": b'}),
        ("0:\n8: b", {0: "", 8: "b"}),
        ("a\n8: b", {0: "a", 8: "b"}),
        ("1girl: smiling", {0: "1girl: smiling"}),
        ('"000": "a",\n08: b', {0: "a", 8: "b"}),
        ("0\uff1a\u5c11\u5973\n\uff11\uff12\uff1a\u732b\uff0c", {0: "\u5c11\u5973", 12: "\u732b\uff0c"}),
        ("\u201c0\u201d\uff1a a\n\u3000max_f\uff1a b", {0: "a", 24: "b"}),
        ("\u5c11\u5973\uff1a\u7b11\u9854", {0: "\u5c11\u5973\uff1a\u7b11\u9854"}),
    ],
)
def test_prompts(text, expected):
    assert parse_prompts(text, "prompts", 24) == expected
    assert list(parse_prompts(text, "prompts", 24)) == sorted(expected)


def test_a_frame_before_the_first_is_named():
    with pytest.raises(ValueError, match="'max_f - 20' is frame -4"):
        parse_prompts("max_f - 20: a", "prompts", 16)


def test_a_frame_that_stands_twice_is_named():
    with pytest.raises(ValueError, match="negative_prompts: frame 8"):
        parse_prompts("8: a\n8: b", "negative_prompts")


@pytest.mark.parametrize("heading", ["best quality", "# a comment"])
def test_a_heading_is_sent_to_the_prefix(heading):
    with pytest.raises(ValueError, match=f"prompts: '{heading}' stands before frame 0, .* goes into prefix"):
        parse_prompts(f"{heading}\n0: a\n8: b", "prompts")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0: a\n16: b\n40: c", ["ends before frame 16, 40; its last frame is 15"]),
        ("0: a\n15: b", []),
        ("0 a", ["'0 a' is taken as prompt text"]),
        ("0: a\n8 b", ["'8 b' is taken as prompt text"]),
        ("0 a\n8 b", ["'0 a' is", "'8 b' is"]),
        ("2 girls, 16:9", []),
        ("two\n3 girls", []),
        ("0: a\nb, 8 c", []),
    ],
)
def test_what_is_probably_not_meant_is_said(text, expected):
    said = doubts(text, "prompts", parse_prompts(text, "prompts", 16), 16)
    assert len(said) == len(expected)
    for sentence, part in zip(said, expected, strict=True):
        assert sentence.startswith("prompts: ") and part in sentence


@pytest.mark.parametrize("line", ["-4: b", "0.5: c", '"1.5": d', "\uff0d4\uff1ab", "0\uff0e5\uff1a c"])
def test_frames_that_are_no_whole_numbers_are_named(line):
    with pytest.raises(ValueError, match="whole numbers"):
        parse_prompts(f"0: a\n{line}", "prompts")


def test_lists_by_a_link_are_numbers_by_frame_or_spread_over_the_range():
    assert parse_numbers([1, 0.5, 0.25], "x").over(range(4)) == [1, 0.5, 0.25, 0.25]
    assert parse_numbers(0.5, "x").over(range(2)) == [0.5, 0.5]
    assert parse_numbers(torch.tensor([2.0, 4.0]), "x", end=1.0).at(0.75) == 3.5
    assert parse_numbers((3.0,), "x", end=1.0).at(1.0) == 3.0
    assert parse_numbers([0.1] * 8, "x", end=1.0).positions[-1] == 1.0


@pytest.mark.parametrize("given", [[], [math.nan], [math.inf, 1], None, ["a"], [[1, 2]], {"a": 1}])
def test_links_that_bring_no_numbers_are_named(given):
    with pytest.raises(ValueError, match="effect got"):
        parse_numbers(given, "effect")
