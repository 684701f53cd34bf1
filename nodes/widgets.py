"""Input declarations of nodes, one line each."""

from . import sockets


def number(default: float, low: float, high: float, tooltip: str, step: float = 0.01) -> tuple:
    return "FLOAT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip}


def rate(default: float, low: float, high: float, tooltip: str, step: float) -> tuple:
    """Frames per second: a number on the page, and by a link a FLOAT or the INT that many packs count rates in."""
    _, options = number(default, low, high, tooltip, step)
    return "FLOAT,INT", {**options, "widgetType": "FLOAT"}


def percent(default: float, tooltip: str) -> tuple:
    """A point of the sampling range, 0 its start and 1 its end."""
    return number(default, 0.0, 1.0, tooltip, step=0.001)


def integer(default: int, low: int, high: int, tooltip: str) -> tuple:
    return "INT", {"default": default, "min": low, "max": high, "tooltip": tooltip}


def switch(default: bool, tooltip: str) -> tuple:
    return "BOOLEAN", {"default": default, "tooltip": tooltip}


def choice(options, default: str, tooltip: str) -> tuple:
    return list(options), {"default": default, "tooltip": tooltip}


def text(default: str, tooltip: str, **options) -> tuple:
    return "STRING", {"default": default, "tooltip": tooltip, **options}


def numbers(default: str, tooltip: str, **options) -> tuple:
    """Numbers by frame or along sampling: text, or a FLOAT list of another node by a link."""
    return "STRING,FLOAT", {"default": default, "tooltip": tooltip, "widgetType": "STRING", **options}


def socket(kind: str, tooltip: str) -> tuple:
    return kind, {"tooltip": tooltip}


# ------------------------------------------------------------------------------------------- of all training nodes

TRAINED_VAE = socket("VAE", "Its VAE, for the clips and the previews.")
OPTIONS = socket(sockets.TRAINING_OPTIONS, "From Training Options; without it the usual ones.")
CURVE_TOOLTIP = "For Training Curve."


def run_inputs(steps: int, learning_rate: float, filename: str, where: str) -> dict:
    """What any training is told about its run."""
    return {
        "filename": text(filename, f"Name in {where}. The same name goes on with an earlier training."),
        "steps": integer(steps, 1, 10**7, "How long to train; more can be added later, and it goes on."),
        "learning_rate": number(
            learning_rate, 1e-7, 1.0, "How much each step changes. Too high: the loss rises or is no number.", step=1e-7
        ),
    }
