"""OpenCV, which most hosts have through other packs, and which little here needs."""


def opencv(who: str):
    """The module cv2. who: what needs it, for the RuntimeError where there is none."""
    try:
        import cv2
    except ImportError:
        raise RuntimeError(f"{who} needs OpenCV: pip install opencv-python-headless") from None
    return cv2
