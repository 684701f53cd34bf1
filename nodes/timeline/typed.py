"""Text as people type it, with an input method of Chinese, Japanese or Korean switched on or off."""

import unicodedata

# the ideographic comma, the minus sign and curved quotes, which Unicode does not count as forms of the plain ones
SIGNS = str.maketrans({"\u3001": ",", "\u2212": "-", "\u201c": '"', "\u201d": '"'})


def half_width(text: str) -> str:
    """Digits, letters and signs as keyboards without an input method give them; lines stay as they are."""
    return unicodedata.normalize("NFKC", text).translate(SIGNS)
