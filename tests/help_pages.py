"""python help_pages.py: write into every help page what follows from its node: wiring, inputs, outputs.

It stands between two marks; the words around it are ours. The wiring is that of the shipped workflows, or else what
fits by its type.
"""

from animatic_pack import ROOT
from api_workflows import WORKFLOWS, api_workflow

PAGES = ROOT / "nodes" / "web" / "docs"
START, END = "<!-- written by `python dev.py pages` -->", "<!-- to here -->"
TYPED = ("FLOAT", "INT", "FLOAT,INT", "STRING", "BOOLEAN", "STRING,FLOAT")  # what is typed into a node, not linked
ENDLESS = 100000  # a limit that nobody reaches
SOURCES = {  # where stock types come from, and where they go; or an input of a node whose type does not tell
    "MODEL": "Load Checkpoint",
    "CLIP": "Load Checkpoint",
    "VAE": "Load Checkpoint",
    "CLIP_VISION": "Load CLIP Vision",
    "CONDITIONING": "Apply ControlNet",
    "LATENT": "Empty Latent Image",
    "IMAGE": "Load Image",
    "MASK": "Load Image (as Mask)",
    "AUDIO": "Load Audio",
    "POSE_KEYPOINT": "pose preprocessor",
    "AnimaticVideoDataset.images": "Load Video",
    "AnimaticEvaluateAnimation.images": "VAE Decode",
    "AnimaticCompareAnimations.images_1": "VAE Decode",
    "AnimaticCompareAnimations.images_2": "VAE Decode",
    "AnimaticCompareAnimations.images_3": "VAE Decode",
    "AnimaticCompareAnimations.images_4": "VAE Decode",
    "AnimaticOpticalFlowPreview.images": "VAE Decode",
    "AnimaticContactSheet.images": "VAE Decode",
    "AnimaticVideoCombine.latent": "KSampler",
    "AnimaticPoseClips.poses": "Draw Pose",
    "AnimaticTrainTuneAVideo.clips": "Video Dataset",
    "AnimaticTrainAnimateAnyone.clips": "Pose Clips",
    "AnimaticTrainAnimateAnyoneMotion.clips": "Pose Clips",
    "AnimaticTrainAnimateAnyoneMotion.model": "Train Animate Anyone",
    "AnimaticTrainAnimateAnyoneMotion.reference_net": "Train Animate Anyone",
    "AnimaticTrainAnimateAnyoneMotion.pose_guider": "Train Animate Anyone",
}
TARGETS = {
    "MODEL": "KSampler",
    "CONDITIONING": "KSampler",
    "CONTROL_NET": "Apply ControlNet",
    "CLIP": "CLIP Text Encode",
    "IMAGE": "Preview Image",
    "MASK": "any node with a mask",
    "AUDIO": "Video Combine",
    "FLOAT": "any node with a number",
    "INT": "any node with a number",
    "LATENT": "KSampler",
    "STRING": "any node with a text",
    "AnimaticPoseClips.clips": "Train Animate Anyone",
    "AnimaticTrainAnimateAnyone.model": "Train Animate Anyone Motion",
    "AnimaticTrainAnimateAnyone.reference_net": "Train Animate Anyone Motion",
    "AnimaticTrainAnimateAnyone.pose_guider": "Train Animate Anyone Motion",
}


def write_pages() -> None:
    from animatic_pack.nodes.registry import NODE_CLASSES

    for node_id in NODE_CLASSES:
        path = PAGES / f"{node_id}.md"
        path.write_text(with_generated(path.read_text(encoding="utf-8"), node_id), encoding="utf-8", newline="\n")


def with_generated(page: str, node_id: str) -> str:
    """The page with its generated part as the code has it now; a page without one gets it at its end."""
    if START not in page:
        page = f"{page.rstrip()}\n\n{START}\n{END}\n"
    before, rest = page.split(START, 1)
    return f"{before}{START}\n{generated(node_id)}{END}{rest.split(END, 1)[1]}"


def generated(node_id: str) -> str:
    inputs = inputs_of(node_id)
    parts = ["```", *wiring(node_id), "```", ""]
    if inputs:
        parts += ["| input | meaning | as added |", "|---|---|---|"]
        parts += [f"| {name} | {cell(options['tooltip'])} | {usual(kind, options)} |" for name, kind, options in inputs]
        parts.append("")
    node = node_class(node_id)
    parts += ["| output | meaning |", "|---|---|"]
    parts += [f"| {name} | {cell(text)} |" for name, text in zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)]
    return "\n".join([*parts, ""])


def node_class(node_id: str) -> type:
    from animatic_pack.nodes.registry import NODE_CLASSES

    return NODE_CLASSES[node_id][0]


def title_of(node_id: str) -> str | None:
    """The name of a node of ours; None for another."""
    from animatic_pack.nodes.registry import NODE_DISPLAY_NAME_MAPPINGS

    return NODE_DISPLAY_NAME_MAPPINGS.get(node_id)


def inputs_of(node_id: str) -> list[tuple[str, object, dict]]:
    declared = node_class(node_id).INPUT_TYPES()
    return [
        (name, kind, options)
        for group in ("required", "optional")
        for name, (kind, options) in declared.get(group, {}).items()
    ]


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def usual(kind, options: dict) -> str:
    """What stands in an input when the node is added, and what else may."""
    default = options.get("default")
    if isinstance(kind, list):
        return choices(kind, default, options["tooltip"].startswith("A folder"))
    if kind not in TYPED:
        return "link"
    if kind == "BOOLEAN":
        return "on" if default else "off"
    if kind in ("FLOAT", "INT", "FLOAT,INT"):
        low, high = options["min"], options["max"]
        return f"{default:g} ({low:g} or more)" if high >= ENDLESS else f"{default:g} ({low:g} to {high:g})"
    return " ".join(f"`{line}`" for line in str(default).splitlines()) or "empty"


def choices(kind: list[str], default: str | None, folders: bool) -> str:
    """What is chosen of; never the names of files and folders, which differ from machine to machine."""
    if folders:
        return "a folder" if default is None else f"`{default}`; or a folder"
    others = [f"`{choice}`" for choice in kind if choice != default]
    return "a file" if default is None else f"`{default}`; or {', '.join(others)}"


def wiring(node_id: str) -> list[str]:
    """A drawing: where each input comes from, the node, where each output goes."""
    node, (number, workflow) = node_class(node_id), best_workflow(node_id)
    left = []
    for name, kind, _ in inputs_of(node_id):
        link = workflow[number]["inputs"].get(name) if workflow else None
        if isinstance(link, list):
            left.append((name_in(workflow, link[0]), name))
        elif not isinstance(kind, list) and kind not in TYPED:
            left.append((SOURCES.get(f"{node_id}.{name}") or source_of(kind), name))
    right = [
        (name, goes_to(workflow, number, slot) or TARGETS.get(f"{node_id}.{name}") or target_of(kind))
        for slot, (name, kind) in enumerate(zip(node.RETURN_NAMES, node.RETURN_TYPES, strict=True))
    ]
    return drawn(left, title_of(node_id), right)


def best_workflow(node_id: str) -> tuple[str, dict]:
    """Where the node stands with most links, and its number there; ("", {}) if nowhere."""
    found = []
    for path in sorted((WORKFLOWS / "api").glob("*.json")):
        workflow = api_workflow(path.stem)
        for number, node in workflow.items():
            if node["class_type"] == node_id:
                links = sum(isinstance(value, list) for value in node["inputs"].values())
                found.append((links, number, workflow))
    _, number, workflow = max(found, key=lambda entry: entry[0], default=(0, "", {}))
    return number, workflow


def name_in(workflow: dict, number: str) -> str:
    node = workflow[number]
    return title_of(node["class_type"]) or node["_meta"]["title"]


def goes_to(workflow: dict, number: str, slot: int) -> str:
    targets = [other for other, node in workflow.items() if [number, slot] in node["inputs"].values()]
    return ", ".join(dict.fromkeys(name_in(workflow, other) for other in targets))


def source_of(kind: str) -> str:
    from animatic_pack.nodes.registry import NODE_CLASSES

    ours = (title for node, title in NODE_CLASSES.values() if kind in node.RETURN_TYPES)
    return SOURCES.get(kind) or next(ours)


def target_of(kind: str) -> str:
    from animatic_pack.nodes.registry import NODE_CLASSES

    ours = (
        title
        for node_id, (_, title) in NODE_CLASSES.items()
        if any(kind == given for _, given, _ in inputs_of(node_id))
    )
    return TARGETS.get(kind) or next(ours)


def drawn(left: list[tuple[str, str]], title: str, right: list[tuple[str, str]]) -> list[str]:
    columns = [*zip(*left or [("", "")], strict=True), *zip(*right, strict=True)]
    source, name, output = (max(map(len, texts)) for texts in columns[:3])
    height = max(len(left), len(right))
    edge = " " * (source + name + 6) + f"+{'-' * (len(title) + 2)}+"
    lines = [edge]
    for row in range(height):
        came = f"{left[row][0]:>{source}} -> {left[row][1]:<{name}}" if row < len(left) else " " * (source + name + 4)
        went = f"{right[row][0]:<{output}} -> {right[row][1]}" if row < len(right) else ""
        middle = title if row == (height - 1) // 2 else ""
        lines.append(f"{came}  | {middle:<{len(title)}} |  {went}".rstrip())
    shift = min(len(line) - len(line.lstrip()) for line in [*lines, edge])
    return [line[shift:] for line in [*lines, edge]]


if __name__ == "__main__":
    import in_process_host

    in_process_host.make_importable()
    from animatic_pack.nodes.host.core.folders import register_model_folders

    register_model_folders()
    write_pages()
