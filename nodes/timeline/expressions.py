"""Arithmetic between backticks in prompts, such as (snow:`0.5 + 0.5 * sin(t / 8)`), evaluated without running code.

Only numbers, the names that are given, arithmetic, comparisons and the functions below are known.
"""

import ast
from collections.abc import Callable, Mapping
import math
import operator
import re

from .typed import half_width

LONGEST = 1000  # characters of an expression

OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "tanh", "sqrt", "exp", "log", "floor", "ceil")},
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "arctan2": math.atan2,
    "abs": abs,
    "min": min,
    "max": max,
    "where": lambda condition, then, otherwise: then if condition else otherwise,
}
# Python's own words for these are for programmers
REASONS: dict[type, str] = {
    SyntaxError: "it is no expression",
    TypeError: "a function in it has too few or too many numbers",
    ZeroDivisionError: "it divides by 0",
    OverflowError: "it is too large",
    RecursionError: "it has too many parts",
    MemoryError: "it has too many parts",
}


def evaluate(text: str, numbers: Mapping[str, float]) -> float:
    """The value of an expression. Raises ValueError, quoting it, for what is not understood or has no finite value."""
    try:
        if len(text) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} characters")
        value = float(_value(ast.parse(half_width(text).strip(), mode="eval").body, numbers))
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = next((words for kind, words in REASONS.items() if isinstance(error, kind)), str(error))
        raise ValueError(
            f"`{text:.80}` has no value: {reason}. Known are {', '.join([*numbers, *FUNCTIONS])}."
        ) from None
    if not math.isfinite(value):
        raise ValueError(f"`{text:.80}` has no finite value.")
    return value


def _value(node: ast.AST, numbers: Mapping[str, float]) -> float:
    """Everything is a float, so that no power takes long or much memory."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in numbers:
        return float(numbers[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return _real(OPERATORS[type(node.op)](_value(node.left, numbers), _value(node.right, numbers)))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand, numbers))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
        return float(OPERATORS[type(node.ops[0])](_value(node.left, numbers), _value(node.comparators[0], numbers)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id in FUNCTIONS:
            return _called(node, [_value(argument, numbers) for argument in node.args])
    raise ValueError(f"'{ast.unparse(node)}' is not known")


def _called(call: ast.Call, values: list[float]) -> float:
    try:
        return FUNCTIONS[call.func.id](*values)
    except ValueError:  # of math: "math domain error", such as of log(0)
        raise ValueError(f"{call.func.id} has none for {', '.join(f'{value:g}' for value in values)}") from None


def _real(value: float | complex) -> float:
    if isinstance(value, complex):
        raise ValueError("it has no real value")
    return value


def has_expressions(text: str) -> bool:
    return re.search("`[^`]+`", text) is not None


def fill_expressions(text: str, numbers: Mapping[str, float]) -> str:
    """The text with the value of each expression in place of it. Raises ValueError as `evaluate` does."""
    return re.sub("`([^`]+)`", lambda found: f"{evaluate(found[1], numbers):.4f}".rstrip("0").rstrip("."), text)
