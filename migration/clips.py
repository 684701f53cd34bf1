"""VideoHelperSuite's nodes, and others that load, save, cut and count frames."""

from pathlib import PureWindowsPath
import re
from typing import Any

from .graph import Node, Out
from .old_values import fits
from .work import Work

FORMATS = {
    "video/h264-mp4": "video/h264-mp4",
    "video/h265-mp4": "video/h265-mp4",
    "video/av1-webm": "video/av1-webm",
    "video/webm": "video/webm",
    "video/ProRes": "video/ProRes",
    "video/ffv1-mkv": "video/ffv1-mkv",
    "video/8bit-png": "image/png",
    "video/16bit-png": "image/16bit-png",
    "video/ffmpeg-gif": "image/gif",
    "video/gifski": "image/gif",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
    "video/nvenc_h264-mp4": "video/h264-mp4",  # the same kind of file, by another encoder
    "video/nvenc_hevc-mp4": "video/h265-mp4",
    "video/nvenc_av1-mp4": "video/av1-webm",
}
DEEP = {"video/h264-mp4": "video/h264-10bit-mp4", "video/h265-mp4": "video/h265-10bit-mp4"}
DEEP_PIXELS = ("yuv420p10le", "p010le")
LONGEST_BATCH = 4096  # of ImageFromBatch and its like
TO_THE_END = 86400.0  # seconds: stock Trim Audio Duration stops where the sound does
INFO_NODES = ("VHS_VideoInfo", "VHS_VideoInfoLoaded", "VHS_VideoInfoSource")
RATE, COUNT, DURATION, WIDTH, HEIGHT = range(5)  # what they say, of the source and of the frames as loaded


def combine(work: Work, node: Node) -> None:
    """Video Combine, which has an input of its own for latents."""
    work.unlinked(node, {"meta_batch": "Context Options renders long clips at once; for plain video work keep VHS"})
    work.only(node, {"trim_to_audio": False}, "the sound is cut or padded to the frames; load fewer frames instead")
    if node.values.get("audio_file"):
        work.lost(node, f"audio_file {node.values['audio_file']!r}: connect stock Load Audio")
    same = ("frame_rate", "loop_count", "filename_prefix", "pingpong", "save_metadata")
    given = {name: work.setting(node, name) for name in same}
    rate = given["frame_rate"]
    if isinstance(rate, int | float) and not 0.1 <= rate <= 240:
        work.lost(node, f"frame_rate {rate}: Video Combine takes 0.1 to 240")
        given["frame_rate"] = min(max(rate, 0.1), 240.0)
    given["save_output"] = work.setting(node, "save_image" if "save_image" in node.values else "save_output")
    given |= {"format": _format(work, node), "audio": node.source("audio")}
    if node.input("vae") and _are_latents(work, node):
        given |= {"latent": node.source("images"), "vae": node.source("vae")}
    else:
        given["images"] = node.source("images")
    crf = work.setting(node, "crf")
    if isinstance(crf, Out):
        given["crf"] = crf
    elif fits(crf, 0):
        given["crf"] = min(int(crf), 63)
    elif crf is not None:
        work.lost(node, f"crf {crf!r} is no number; Video Combine's own stands there now")
    if given["filename_prefix"] == "":
        given["filename_prefix"] = "AnimateDiff"
    out = work.add("AnimaticVideoCombine", node, True, **{k: v for k, v in given.items() if v is not None})
    work.finish(node, {0: out} if _wants_path(work, node) else {})


def _are_latents(work: Work, node: Node) -> bool:
    """Whether what comes in as images are latents. The API form does not say."""
    behind, source = work.graph.node_behind(node.source("images")), work.graph.origin(node.source("images"))
    if behind and source.slot < len(behind.outputs):
        return behind.outputs[source.slot].kind == "LATENT"
    work.lost(node, "vae: if latents come in as images, connect them to latent instead, and the vae")
    return False


def _wants_path(work: Work, node: Node) -> bool:
    """Whether all that reads the files' names takes one path. Nodes that only tidied up after VHS go out."""
    for reader, one in list(work.graph.readers(node.id, 0)):
        if reader.type == "VHS_PruneOutputs":
            work.finish(reader, {})
        elif reader.type == "VHS_SelectFilename":
            for _, read in work.graph.readers(reader.id):
                read.source = Out(node.id, 0)
            one.source = None
            work.finish(reader, {})
    return all(one.kind in ("STRING", "*") for _, one in work.graph.readers(node.id, 0))


def _format(work: Work, node: Node) -> str:
    name = work.value(node, "format")
    if name not in FORMATS:
        work.lost(node, f"format {name!r} has no equal; video/h264-mp4 stands there now")
        return "video/h264-mp4"
    if "nvenc" in name or "gifski" in name:
        work.lost(node, f"format {name!r}: the same kind of file by another encoder; crf holds instead of a bitrate")
    if node.values.get("pix_fmt") in DEEP_PIXELS and FORMATS[name] in DEEP:
        return DEEP[FORMATS[name]]
    if name == "video/ProRes" and node.values.get("profile") not in (None, "", "4444", "4", "hq", "3"):
        work.lost(node, f"ProRes profile {node.values['profile']!r}: ours is 4444, which is larger and loses less")
    return FORMATS[name]


def load_video(work: Work, node: Node) -> None:
    width, height = _forced_size(work, node)
    names = ("force_rate", "frame_load_cap", "skip_first_frames", "select_every_nth")
    given = {name: work.setting(node, name) for name in names}
    if not isinstance(given["select_every_nth"], Out):
        given["select_every_nth"] = max(given["select_every_nth"] or 1, 1)
    work.value(node, "format")  # a kind of model, for which VHS only suggests a rate and a size
    given |= {"width": width, "height": height, "video": _in_input_folder(work, node, "video")}
    work.unlinked(node, {"meta_batch": "Context Options renders long clips at once"})
    out = work.add("AnimaticLoadVideo", node, True, **{k: v for k, v in given.items() if v is not None})
    outputs, names = _load_outputs(work, node, out)
    work.finish(node, outputs, names)


def _forced_size(work: Work, node: Node) -> tuple[Any, Any]:
    """Width and height as VHS's page reads force_size: with Disabled neither counts."""
    width, height = (work.setting(node, name) for name in ("custom_width", "custom_height"))
    mode = node.values.get("force_size")
    if not isinstance(mode, str) or not mode:
        return width, height
    if sizes := re.fullmatch(r"(\d+|\?)x(\d+|\?)", mode):
        return tuple(0 if one == "?" else int(one) for one in sizes.groups())
    if mode in ("Disabled", "Custom Height"):
        width = 0
    if mode in ("Disabled", "Custom Width"):
        height = 0
    return width, height


def _in_input_folder(work: Work, node: Node, name: str) -> Any:
    """A file's or folder's name in the input folder; a path elsewhere is named, and only its last part is kept."""
    value = work.value(node, name)
    if value is None:
        work.lost(node, f"{name} comes by a link: choose it in the node")
        return ""
    path = str(value).strip().strip('"').replace("\\", "/").rstrip("/")
    if node.type in ("VHS_LoadVideo", "VHS_LoadImages", "VHS_LoadAudioUpload"):
        return path if path != "None" else ""
    inside = re.sub(r"^(\./)?(ComfyUI/)?input/", "", path)
    kept = PureWindowsPath(inside).name
    if not (path.startswith(("input/", "./input/", "ComfyUI/input/"))):
        work.lost(node, f"{value!r}: put it into ComfyUI's input folder, where {kept!r} is looked for now")
        return kept
    return inside


def _load_outputs(work: Work, node: Node, out: Out) -> tuple[dict[int, Out | None], list[str]]:
    """Where readers of VHS's outputs read now; old files hold fewer outputs, and name them."""
    images, audio, count = Out(out.node, 0), Out(out.node, 1), Out(out.node, 3)
    called = [one.name for one in node.outputs] or ["IMAGE", "frame_count", "audio", "video_info"]
    places = {"IMAGE": images, "frame_count": count, "audio": audio, "LATENT": images}
    outputs: dict[int, Out | None] = {}
    names = []
    for slot, name in enumerate(called):
        if name == "video_info":
            names += _spread_info(work, node, slot, out)
        outputs[slot] = places.get(name)
    if node.input("vae"):
        outputs[0] = work.add("VAEEncode", node, pixels=images, vae=node.source("vae"))
        names.append("VAEEncode")
    return outputs, names


def _spread_info(work: Work, node: Node, slot: int, out: Out) -> list[str]:
    """Let what read a Video Info node read Load Video, and stock Get Image Size for width and height."""
    names, size = [], None
    for info, _ in list(work.graph.readers(node.id, slot)):
        if info.type not in INFO_NODES:
            continue
        info.asked.add("video_info")
        outputs: dict[int, Out | None] = {}
        for place in {one.source.slot for _, one in work.graph.readers(info.id)}:
            what = place % 5
            loaded = info.type == "VHS_VideoInfoLoaded" or place > 4
            if not loaded and not _is_as_loaded(node, what):
                continue
            if what in (WIDTH, HEIGHT) and size is None:
                size = work.add("GetImageSize", node, image=Out(out.node, 0))
                names.append("GetImageSize")
            new = {RATE: Out(out.node, 2), COUNT: Out(out.node, 3)}
            new |= {WIDTH: size, HEIGHT: Out(size.node, 1)} if size else {}
            outputs[place] = new.get(what)
        work.finish(info, outputs)
    return names


def _is_as_loaded(node: Node, what: int) -> bool:
    """Whether the source's own rate, count or size is that of the frames which are loaded."""
    usual = {"force_rate": 0, "select_every_nth": 1}
    if what == COUNT:
        usual |= {"frame_load_cap": 0, "skip_first_frames": 0}
    if what in (WIDTH, HEIGHT):
        usual = {"custom_width": 0, "custom_height": 0}
        if node.values.get("force_size") == "Disabled":
            return True
    return all(node.values.get(name) == value and not node.input(name) for name, value in usual.items())


def load_images(work: Work, node: Node) -> None:
    start = "start_index" if node.type == "LoadImagesFromDirectory" else "skip_first_images"
    given = {
        "folder": _in_input_folder(work, node, "directory"),
        "frame_load_cap": work.setting(node, "image_load_cap"),
        "skip_first_frames": work.setting(node, start),
        "select_every_nth": work.setting(node, "select_every_nth") or 1 if "select_every_nth" in node.values else 1,
    }
    if given["folder"] == "":
        work.lost(node, "no folder was chosen; choose one")
    work.unlinked(node, {"meta_batch": "Context Options renders long clips at once"})
    out = work.add("AnimaticLoadImageSequence", node, True, **{k: v for k, v in given.items() if v is not None})
    work.finish(node, {slot: Out(out.node, slot) for slot in range(3)})


def load_audio(work: Work, node: Node) -> None:
    """Stock Load Audio, and Trim Audio Duration where a part was taken."""
    path = node.type == "VHS_LoadAudio"
    start, length = (work.setting(node, n) for n in ("seek_seconds" if path else "start_time", "duration"))
    name = _in_input_folder(work, node, "audio_file" if path else "audio")
    out, names = work.add("LoadAudio", node, True, audio=name), []
    if start or length:
        out = work.add("TrimAudioDuration", node, audio=out, start_index=start, duration=length or TO_THE_END)
        names.append("TrimAudioDuration")
    work.finish(node, {0: out}, names)


def split(work: Work, node: Node) -> None:
    """Two parts of a batch: the frames before an index, and those from it on."""
    plug = "images" if node.type == "VHS_SplitImages" else "latents"
    kind, into = ("ImageFromBatch", "image") if plug == "images" else ("LatentFromBatch", "samples")
    most = LONGEST_BATCH if plug == "images" else 64
    index, whole = work.setting(node, "split_index"), node.source(plug)
    read = {one.source.slot for _, one in work.graph.readers(node.id)}
    if not isinstance(index, Out) and (index < 0 or index > most - 1 or (index == 0 and read & {0, 1})):
        work.lost(
            node, f"split_index {index}: {kind} counts from the beginning and takes at least one frame; set it there"
        )
        index = max(1, min(abs(index), most - 1))
    ranges = {0: {"batch_index": 0, "length": index}, 2: {"batch_index": index, "length": most}}
    outputs: dict[int, Out | None] = {}
    names: list[str] = []
    for first, given in ranges.items():
        if not read & {first, first + 1}:
            continue
        primary = not outputs
        outputs[first] = work.add(kind, node, primary, **{into: whole}, **given)
        names += [] if primary else [kind]
        if first + 1 in read:
            outputs[first + 1] = _count(work, node, outputs[first], plug)
            names.append("GetImageSize" if plug == "images" else "AnimaticFrameNumbers")
    work.finish(node, outputs, names)


def _count(work: Work, node: Node, batch: Out | None, plug: str, primary: bool = False) -> Out:
    """How many frames there are: the third output of a node that stands in stock, or of ours for latents."""
    if plug == "images":
        return Out(work.add("GetImageSize", node, primary, image=batch).node, 2)
    return Out(work.add("AnimaticFrameNumbers", node, primary, latent=batch).node, 2)


def count(work: Work, node: Node) -> None:
    plug = "images" if node.type == "VHS_GetImageCount" else "latents"
    work.finish(node, {0: _count(work, node, node.source(plug), plug, primary=True)})


def repeat(work: Work, node: Node) -> None:
    plug = "images" if node.type == "VHS_DuplicateImages" else "latents"
    kind, into = ("RepeatImageBatch", "image") if plug == "images" else ("RepeatLatentBatch", "samples")
    amount, most = work.setting(node, "multiply_by"), LONGEST_BATCH if plug == "images" else 64
    if isinstance(amount, int) and amount > most:
        work.lost(node, f"multiply_by {amount}: {kind} goes to {most}")
        amount = most
    out = work.add(kind, node, True, **{into: node.source(plug)}, amount=amount)
    outputs, names = {0: out}, []
    if any(work.graph.readers(node.id, 1)):
        outputs[1] = _count(work, node, out, plug)
        names.append("GetImageSize" if plug == "images" else "AnimaticFrameNumbers")
    work.finish(node, outputs, names)


def empty_latent(work: Work, node: Node) -> None:
    given = {name: work.setting(node, name) for name in ("width", "height", "batch_size")}
    if isinstance(given["batch_size"], int) and given["batch_size"] > LONGEST_BATCH:
        work.lost(node, f"batch_size {given['batch_size']}: stock goes to {LONGEST_BATCH}")
        given["batch_size"] = LONGEST_BATCH
    work.finish(node, {0: work.add("EmptyLatentImage", node, True, **given)})


def vae_batched(work: Work, node: Node) -> None:
    """Stock VAE nodes divide by free memory themselves."""
    kind, plug = ("VAEDecode", "samples") if node.type == "VHS_VAEDecodeBatched" else ("VAEEncode", "pixels")
    given = {name: node.source(name) for name in (plug, "vae") if node.input(name)}
    work.finish(node, {0: work.add(kind, node, True, **given)})


def checkpoint(work: Work, node: Node) -> None:
    """Stock Load Checkpoint. Its beta_schedule went to the nodes that act on the MODEL before."""
    if node.values.get("use_custom_scale_factor"):
        work.only(node, {"scale_factor": 0.18215}, "that of every SD1.5 checkpoint is 0.18215")
    schedule = node.values.get("beta_schedule")
    if schedule not in ("use existing", "linear (HotshotXL/default)") and _samples_without_motion(work, node):
        work.lost(
            node,
            f"beta_schedule {schedule!r} acts where Apply Motion Module is; a sampler that takes this MODEL without "
            "one runs on the checkpoint's own",
        )
    out = work.add("CheckpointLoaderSimple", node, True, ckpt_name=work.setting(node, "ckpt_name"))
    work.finish(node, {slot: Out(out.node, slot) for slot in range(3)})


def _samples_without_motion(work: Work, checkpoint: Node) -> bool:
    """Whether the MODEL also goes to something that has no Apply Motion Module before it."""
    ways, seen = [reader for reader, _ in work.graph.readers(checkpoint.id, 0)], set()
    while ways:
        node = ways.pop()
        if node.id in seen or node.type == "AnimaticApplyMotionModule":
            continue
        seen.add(node.id)
        onwards = [reader for reader, one in work.graph.readers(node.id) if one.name in ("model", "", "*")]
        if not onwards:
            return True
        ways += onwards
    return False
