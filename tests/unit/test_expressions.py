"""Arithmetic in prompts: the numbers it gives, and that nothing but arithmetic is done."""

import math

from animatic_pack.nodes.timeline.expressions import evaluate, fill_expressions, has_expressions
from animatic_pack.nodes.timeline.keyframes import parse_prompts
import pytest

NUMBERS = {"t": 6, "max_f": 24, "pw_a": 0.5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (" 0.5 + 0.5 * sin(t / max_f) ", 0.5 + 0.5 * math.sin(0.25)),
        ("\uff11\uff0b\uff08t\uff09\u2212\uff12", 5),
        ("-t ** 2 // 5 % 3", -(6**2) // 5 % 3),
        ("where(t > 5, pw_a, 1)", 0.5),
        ("max(0, min(1, (t - 2) / 8))", 0.5),
        ("(t <= 6) * 2 + (t != 6)", 2),
        ("sqrt(abs(-9)) + arctan2(0, 1) + exp(0) + floor(1.7) + ceil(0.2)", 6),
    ],
)
def test_values(text, value):
    assert evaluate(text, NUMBERS) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t +",
        "x",
        "pw_d",
        "__import__('os')",
        "().__class__",
        "t.real",
        "[1][0]",
        "'a'",
        "(lambda: 1)()",
        "sin(t, x=1)",
        "sin()",
        "t if t else 1",
        "1 / 0",
        "log(0)",
        "(-1) ** 0.5",
        "9 ** 9 ** 9 ** 9",
        "exp(1e6)",
        "1e308 * 10",
        "(" * 300 + ")" * 300,
        "-" * 900 + "1" * 90 + "+" * 200,
        "1 < t < 9",
        "f'{t}'",
        "True + None",
    ],
)
def test_what_is_no_arithmetic_is_quoted(text):
    with pytest.raises(ValueError, match="`.*` has no (finite )?value"):
        evaluate(text, NUMBERS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sin(1, 2)", "too few or too many numbers"),
        ("where(1)", "too few or too many numbers"),
        ("min()", "too few or too many numbers"),
        ("t / 0", "it divides by 0"),
        ("10 ** 1000", "it is too large"),
        ("log(0)", "log has none for 0"),
        ("(-1) ** 0.5", "it has no real value"),
    ],
)
def test_reasons_are_in_plain_words(text, words):
    with pytest.raises(ValueError, match=f"` has no value: .*{words}. Known are t"):
        evaluate(text, NUMBERS)


def test_expressions_in_a_prompt_become_numbers():
    text = "a (tree:`t / max_f`) in (snow:`pw_a`), `t` birds, 100% `1/3`"
    assert has_expressions(text) and not has_expressions("a `tree")
    assert fill_expressions(text, NUMBERS) == "a (tree:0.25) in (snow:0.5), 6 birds, 100% 0.3333"
    assert fill_expressions("as it is", NUMBERS) == "as it is"


def test_frames_can_be_parts_of_the_clip():
    text = '"0": "a",\n"max_f / 2": "b: c",\nmax_f-1: d'
    assert parse_prompts(text, "prompts", 24) == {0: "a", 12: "b: c", 23: "d"}
