"""Inputs that all training nodes have."""

from . import sockets, widgets

VAE = widgets.socket("VAE", "Its VAE, for the clips and the previews.")
OPTIONS = widgets.socket(sockets.TRAINING_OPTIONS, "From Training Options; without it the usual ones.")
CURVE_TOOLTIP = "For Training Curve."


def run_inputs(steps: int, learning_rate: float, filename: str, where: str) -> dict:
    """What any training is told about its run."""
    return {
        "filename": widgets.text(filename, f"Name in {where}. The same name goes on with an earlier training."),
        "steps": widgets.integer(steps, 1, 10**7, "How long to train; more can be added later, and it goes on."),
        "learning_rate": widgets.number(
            learning_rate, 1e-7, 1.0, "How much each step changes. Too high: the loss rises or is no number.", step=1e-7
        ),
    }
