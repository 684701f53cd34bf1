"""Queue many small prompts of all kinds in one served ComfyUI, and see what it carries from one to the next.

One of them comes back every so often and must give the same bytes each time. Prints how much memory the server holds
after each hundred prompts, the last of which is always that one, once it has collected its garbage.
"""

import argparse
from collections import Counter
from collections.abc import Callable
import hashlib
import os
from pathlib import Path
import random
import sys
import time

from animatic_pack import dev
from api_client import ApiClient
import in_process_host
import psutil
from served_host import serve
import small_models
from small_workflows import small

AGAIN, MARK = 50, 100  # every so many prompts the same one comes back, and after it memory is looked at
SEED = 20  # with which a dozen prompts already see failures and interruptions
COLLECT_SECONDS = 12  # ComfyUI collects garbage when it had nothing to do for 10
GROWTH = 1.03  # of memory after the first mark, as much as a server may hold after the last
FORMATS = ("video/h264-mp4", "video/webm", "video/ProRes", "image/gif", "image/webp", "image/png")
SCHEDULES = ("static standard", "uniform standard", "uniform looped", "batched")
MOTION_LORA = "small_v3.safetensors"
OUTCOMES = ("rendered", "failed", "interrupted")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("prompts", type=int, nargs="?", default=1000)
    count = parser.parse_args().prompts
    base = dev.base_directory("soak")
    write_models(base / "models")
    # or glibc keeps up to 64 MB of what was freed for later, and that would look like something held
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**17))
    print(f"| prompts | {', '.join(OUTCOMES)} | memory | the same one's bytes |\n|---|---|---|---|")
    with serve(dev.find_host(), base, ["--preview-method", "latent2rgb"]) as served:
        memory = []

        def show(number: int, outcomes: Counter, digests: set[str]) -> None:
            if number % MARK == 0 or number == count:
                time.sleep(COLLECT_SECONDS)
                memory.append(psutil.Process(served.process.pid).memory_info().rss / 2**20)
                counts = ", ".join(str(outcomes[name]) for name in OUTCOMES)
                print(f"| {number} | {counts} | {memory[-1]:.0f} MB | {' '.join(digests)} |", flush=True)

        digests, _ = soak(served.client, count, after=show)
    return int(len(digests) > 1 or memory[-1] > GROWTH * memory[0])


def write_models(models: Path) -> None:
    in_process_host.make_importable()
    small_models.write_demo_models(models)
    small_models.write(models / "animatediff_motion_lora", MOTION_LORA, small_models.motion_lora_state_dict())


def soak(
    client: ApiClient,
    count: int,
    again: int = AGAIN,
    after: Callable[[int, Counter, set[str]], None] = lambda *_: None,
) -> tuple[set[str], Counter]:
    """What the same prompt gave, as short digests, and how prompts ended. One digest: nothing was carried over.

    after: called after each prompt, with how many there were, how they ended, and the digests.
    Raises RuntimeError for a prompt that ends otherwise than it should.
    """
    outcomes, digests, choose = Counter(), set(), random.Random(SEED)
    for number in range(count):
        if (number + 1) % again == 0:
            digests.add(digest(client.render(small("text_to_animation", seed=5))))
            outcomes["rendered"] += 1
        else:
            outcomes[queue(client, choose)] += 1
        after(number + 1, outcomes, digests)
    return digests, outcomes


def digest(history: dict) -> str:
    """Of the video's file."""
    (entry,) = history["outputs"]["9"]["gifs"]
    return hashlib.sha256(Path(entry["fullpath"]).read_bytes()).hexdigest()[:12]


def queue(client: ApiClient, choose: random.Random) -> str:
    """Queue one prompt and see it end as it should: how it did."""
    workflow, words, outcome = some_workflow(choose), "", choose.choices(OUTCOMES, (75, 15, 10))[0]
    if outcome == "failed":
        words, change = choose.choice(FAILURES)
        change(workflow)
    if outcome == "interrupted":
        words = "the prompt was interrupted"
        workflow["7"]["inputs"]["steps"] = 20

    def watch(message: dict) -> None:
        if outcome == "interrupted" and message["type"] == "progress" and message["data"]["node"] == "7":
            client.post("/interrupt", {})

    ended = ""
    try:
        client.render(workflow, watch)
    except RuntimeError as failure:
        ended = str(failure)
    if words not in ended or bool(words) != bool(ended):
        raise RuntimeError(f"this should have {outcome}: {workflow}; {ended or 'it rendered'}")
    return outcome


# ---------------------------------------------------------------------------------------------- prompts of all kinds


def some_workflow(choose: random.Random) -> dict:
    """Text to animation with whatever else was drawn."""
    frames = choose.randint(2, 8)
    workflow = small("text_to_animation", seed=choose.randrange(2**32), batch_size=frames, steps=choose.randint(1, 2))
    apply = workflow["3"]["inputs"]
    apply["motion_scale"], apply["effect"] = choose.choice([1.0, 1.2]), choose.choice([1.0, 0.8])
    apply["end_percent"] = choose.choice([1.0, 1.0, 0.5])
    for feature in (windows, prompt_travel, motion_loras, motion_control, cfg, noise, start_image, video):
        if choose.random() < 0.35:
            feature(workflow, choose, frames)
    return workflow


def node(workflow: dict, number: str, kind: str, /, **inputs) -> None:
    workflow[number] = {"class_type": kind, "inputs": inputs}


def on_model(workflow: dict, number: str, kind: str, /, **inputs) -> None:
    """One more node between the MODEL and the sampler."""
    node(workflow, number, kind, model=workflow["7"]["inputs"]["model"], **inputs)
    workflow["7"]["inputs"]["model"] = [number, 0]


def windows(workflow: dict, choose: random.Random, frames: int) -> None:
    options = {"context_length": 4, "context_overlap": choose.randint(0, 3), "context_stride": 1}
    options |= {"context_schedule": choose.choice(SCHEDULES), "fuse_method": "overlap-linear"}
    on_model(workflow, "20", "AnimaticContextOptions", **options, free_noise=choose.random() < 0.5)


def prompt_travel(workflow: dict, choose: random.Random, frames: int) -> None:
    texts = {"prompts": f"0: spring\n{frames - 1}: (autumn:`0.5 + t * 0.1`)", "negative_prompts": "0: blurry"}
    texts |= {"prefix": "a lake", "suffix": "", "num_frames": frames, "curve": "linear"}
    node(workflow, "21", "AnimaticPromptTravel", clip=["1", 1], **texts, loop=choose.random() < 0.5)
    workflow["7"]["inputs"].update(positive=["21", 0], negative=["21", 1])


def motion_loras(workflow: dict, choose: random.Random, frames: int) -> None:
    node(workflow, "22", "AnimaticLoadMotionLora", motion_lora=MOTION_LORA, strength=choose.choice([0.5, 1.0]))
    strengths = {"start_strength": 1.0, "end_strength": 0.0, "start_percent": 0.0, "end_percent": 1.0}
    node(workflow, "23", "AnimaticMotionLoraSchedule", motion_lora=["22", 0], **strengths, curve="linear")
    workflow["3"]["inputs"]["motion_lora"] = [choose.choice(["22", "23"]), 0]


def motion_control(workflow: dict, choose: random.Random, frames: int) -> None:
    numbers = {"motion_scale": "0: 1, 3: 1.3", "effect": "1, 0.9", "curve": "linear", "start_percent": 0.0}
    node(workflow, "24", "AnimaticMotionControl", **numbers, end_percent=1.0, block_effects="down_blocks.0 = 0.5")
    workflow["3"]["inputs"]["motion_control"] = ["24", 0]


def cfg(workflow: dict, choose: random.Random, frames: int) -> None:
    on_model(workflow, "25", "AnimaticCfgSchedule", by_step="0: 8, 1: 3", by_frame="1, 0.9", curve="linear")


def noise(workflow: dict, choose: random.Random, frames: int) -> None:
    seeds = f"0: {choose.randrange(1000)}, 4: {choose.randrange(1000)}"
    on_model(workflow, "26", "AnimaticFrameNoise", kind="sampler", seeds=seeds, curve="linear")


def start_image(workflow: dict, choose: random.Random, frames: int) -> None:
    node(workflow, "27", "EmptyImage", width=64, height=64, batch_size=1, color=choose.randrange(2**24))
    image = {"image": ["27", 0], "vae": ["1", 2]}
    on_model(workflow, "28", "AnimaticStartFromImage", **image, image_weight="0: 0.03, 4: 0.01", curve="linear")


def video(workflow: dict, choose: random.Random, frames: int) -> None:
    """Another file format, and half the time straight from the latent."""
    combine = workflow["9"]["inputs"]
    combine.update(format=choose.choice(FORMATS), pingpong=choose.random() < 0.5)
    if choose.random() < 0.5:
        del workflow["8"], combine["images"]
        combine.update(latent=["7", 0], vae=["1", 2])


def missing_file(workflow: dict) -> None:
    workflow["2"]["inputs"]["motion_module"] = "missing.safetensors"


def missing_block(workflow: dict) -> None:
    motion_control(workflow, None, 0)
    workflow["24"]["inputs"]["block_effects"] = "mid_block = 0"


def too_many_frames(workflow: dict) -> None:
    workflow["6"]["inputs"]["batch_size"] = 40
    workflow["7"]["inputs"]["model"] = ["3", 0]


def long_name(workflow: dict) -> None:
    workflow["9"]["inputs"]["filename_prefix"] = "a" * 300


FAILURES = (
    ("missing.safetensors", missing_file),
    ("no block mid_block", missing_block),
    ("knows 32 frames", too_many_frames),
    ("more than a disk takes", long_name),
)


if __name__ == "__main__":
    sys.exit(main())
