"""What the pack raises: exceptions that ComfyUI shows by their plain names, with sentences for artists."""

import ast
import builtins

from animatic_pack import ROOT
from messages import FOLDERS, UNKNOWN, Message, messages
import pytest

# functions that return what is raised; what they make is in the list too
MAKERS = {"cannot_be_used", "_failure", "nothing_left"}
ALL = list(messages())


def test_they_are_found():
    assert len(ALL) > 150 and {message.exception for message in ALL} >= {"ValueError", "RuntimeError", *MAKERS}


@pytest.mark.parametrize("message", ALL, ids=lambda message: message.place)
def test_an_exception_is_a_plain_one_with_a_sentence(message: Message):
    """ComfyUI shows a class of ours with the path that it has on the user's disk."""
    made = getattr(builtins, message.exception, None)
    assert message.exception in MAKERS or isinstance(made, type) and issubclass(made, BaseException)
    assert message.text == UNKNOWN or "{error}" in message.text or len(message.text.split()) > 2, message
    assert message.text == message.text.strip() and "  " not in message.text, message


def test_no_class_of_ours_is_an_exception():
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="ascii"))):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            assert not [base for base in bases if base.endswith(("Error", "Exception"))], f"{path.name}: {node.name}"
