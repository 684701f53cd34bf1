"""The small world's programme goes through every row, and goes on where it stopped. It learns nothing in that time."""

import re

from animatic_pack.evaluation.world import files
from animatic_pack.evaluation.world.claims import CLAIMS
from animatic_pack.evaluation.world.command_line import main
from animatic_pack.evaluation.world.page import NOTHING_YET
from animatic_pack.evaluation.world.programme import rows
from animatic_pack.nodes.host.evaluation.networks import NarrowNetworks
from animatic_pack.training.camera import MOVES
from animatic_pack.training.state import states
import pytest
import torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    assert run(folder) == 0
    return folder


def run(folder) -> int:
    with torch.random.fork_rng():
        return main(["--budget", "0.001", "--device", "cpu", "--folder", str(folder)], NarrowNetworks)


def test_every_row_is_trained_and_every_claim_is_measured(folder):
    for row in rows():
        assert (folder / f"{row.name}.safetensors").is_file() or states(folder / f"{row.name}-2")
    page = (folder / "small_world.md").read_text()
    assert re.search(r"\| motion_module \| 4 \| 0 \|", page)
    for claim in CLAIMS:
        assert f"## {claim.name}: " in page
    figures = [line for line in page.splitlines() if re.match(r"\| .*\d \[", line)]
    clips = {path.name for path in (folder / "small_world").iterdir()}
    assert clips >= {"styles.webp", "moves.webp", "dancers.webp", "T1_0.webp", "A1_2.webp"}
    assert len(figures) > 30 and all(NOTHING_YET in line for line in figures)


def test_it_goes_on_where_it_stopped(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors") if "files" not in path.parts}
    assert run(folder) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_its_files_are_models_that_the_host_finds(folder, tmp_path):
    written = files.write_models(tmp_path, folder / "files")
    assert {path.parent.name for path in written} == {
        "checkpoints",
        "animatediff_models",
        "animatediff_motion_lora",
        "controlnet",
        "loras",
        "animate_anyone",
        "diffusion_models",
        "vae",
        "clip_vision",
    }
    assert len(written) == 4 + 1 + 1 + 1 + len(MOVES) + 6
    assert files.write_models(tmp_path, folder / "files") == written


def test_another_budget_is_another_folders(folder, capsys):
    assert main(["--budget", "0.002", "--device", "cpu", "--folder", str(folder)], NarrowNetworks) == 1
    assert "is of a run of 0.001 minutes" in capsys.readouterr().err
