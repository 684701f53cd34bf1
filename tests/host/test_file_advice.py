"""A file in the wrong place: what it is, and where it belongs."""

from animatic_pack.motion_modules.file_kind import FileKind
from animatic_pack.nodes.host.core.file_advice import ADVICE, cannot_be_used
import pytest
import torch


def test_every_kind_of_file_has_a_place():
    assert set(FileKind) - set(ADVICE) == {FileKind.EMPTY, FileKind.OTHER}


@pytest.mark.parametrize("wanted, advised", [(FileKind.MOTION_LORA, True), (FileKind.LORA, False)])
def test_advice_is_for_files_of_another_kind_alone(wanted, advised):
    lora = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(1)}
    error = cannot_be_used("x.safetensors", "a MotionLoRA", wanted, {"state_dict": lora}, ValueError("it is wrong."))
    assert str(error).startswith("x.safetensors cannot be used as a MotionLoRA: it is wrong.")
    assert ("Load LoRA (Model Only)" in str(error)) == advised
