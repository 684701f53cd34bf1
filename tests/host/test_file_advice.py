"""A file in the wrong place: what it is, and where it belongs."""

from animatic_pack.motion_modules.file_kind import FileKind
from animatic_pack.nodes.host.core.file_advice import ADVICE, cannot_be_used
from animatic_pack.nodes.host.core.weight_files import load_weights
from animatic_pack.nodes.host.motion.attach import require_fit
from animatic_pack.nodes.host.motion.domain_adapter import apply_domain_adapter
import comfy.utils
import folder_paths
from host_models import image_model, motion_module_of
import pytest
from safetensors.torch import save_file
from small_models import domain_adapter_state_dict
import torch


def test_every_kind_of_file_has_a_place():
    assert set(FileKind) - set(ADVICE) == {FileKind.EMPTY}


@pytest.mark.parametrize("wanted, advised", [(FileKind.MOTION_LORA, True), (FileKind.LORA, False)])
def test_advice_is_for_files_of_another_kind_alone(wanted, advised):
    lora = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(1)}
    error = cannot_be_used("x.safetensors", "a MotionLoRA", wanted, {"state_dict": lora}, ValueError("it is wrong."))
    assert str(error).startswith("x.safetensors cannot be used as a MotionLoRA: it is wrong.")
    assert ("Load LoRA (Model Only)" in str(error)) == advised


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (MemoryError("Cannot allocate memory (os error 12)"), MemoryError, "not enough memory to read x.safetensors"),
        (OSError("The paging file is too small (os error 1455)"), MemoryError, "let the paging file grow"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError, "Close other programs"),
        (RuntimeError("unable to mmap x: Cannot allocate memory (12)"), MemoryError, "not enough memory"),
        (PermissionError(13, "Permission denied"), OSError, "x.safetensors could not be read, .*Permission denied"),
        (OSError(5, "Input/output error"), OSError, "x.safetensors could not be read, .*Input/output error"),
        (RuntimeError("PytorchStreamReader failed"), ValueError, "x.safetensors .* is damaged or cut short"),
    ],
)
def test_a_file_is_not_blamed_for_the_computer(error, kind, words, tmp_path, monkeypatch):
    """The errors are those of safetensors and torch under a limit of memory, and Windows' own."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")

    def load(*_, **__):
        raise error

    monkeypatch.setattr(comfy.utils, "load_torch_file", load)
    with pytest.raises(kind, match=words):
        load_weights("loras", "x.safetensors")


@pytest.mark.parametrize("written", [lambda key: key, lambda key: "lora_unet_" + key.replace(".processor.", "_")])
def test_a_domain_adapter_for_another_kind_of_model_is_refused(written, tmp_path, monkeypatch):
    """Some of its layers have namesakes of the same width in SDXL, which would change the picture."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    weights = {written(key): value for key, value in domain_adapter_state_dict().items()}
    save_file(weights, tmp_path / "adapter.safetensors")
    with pytest.raises(ValueError, match="adapter.safetensors is for SD1.5, which this model is not"):
        apply_domain_adapter(image_model("SDXL"), "adapter.safetensors", 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_domain_adapter_of_values_that_are_not_numbers_is_refused(value, tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    weights = {**domain_adapter_state_dict(), "x.alpha": torch.tensor(4)}  # a whole number, as some trainers write
    save_file(weights, tmp_path / "adapter.safetensors")
    model = image_model()
    assert apply_domain_adapter(model, "adapter.safetensors", 0.0) is model
    key = next(iter(weights))
    weights[key][0, 0] = value
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=f"broken.safetensors cannot be used as .* not numbers at {key}") as said:
        apply_domain_adapter(model, "broken.safetensors", 1.0)
    assert "Put it into" not in str(said.value), "it stands in the right place"


def test_a_motion_module_for_more_or_fewer_blocks_says_where_it_differs():
    model = image_model()
    require_fit(model, motion_module_of("fits", modules=2), "fits")
    for modules, count, words in ((1, 12, "has nothing there, the model has"), (3, 28, "there, the model has nothing")):
        with pytest.raises(ValueError) as said:
            require_fit(model, motion_module_of("other", modules=modules), "other")
        assert f"{count} places" in str(said.value) and "the model has 20" in str(said.value), said.value
        assert words in str(said.value), said.value
