"""Input declarations of nodes, one line each."""


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
