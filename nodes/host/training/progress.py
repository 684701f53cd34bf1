"""How a training shows on its node: a bar, a line of text, and the newest preview."""

import comfy.utils
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from ...media.contact_sheet import contact_sheet

LONGEST_SIDE = 512  # pixels of the preview that is sent


class NodeProgress:
    """Of the node at work when this is made; it may be moved from another thread."""

    def __init__(self):
        context = get_executing_context()
        self.node_id = context.node_id if context else None
        self.bar = comfy.utils.ProgressBar(1)

    def show(self, done: int, total: int, text: str = "", frames: Tensor | None = None) -> None:
        """frames: (F, H, W, 3) in 0..1, shown as a contact sheet, because frontends play no clip in a running node."""
        picture = None
        if frames is not None:
            sheet = (contact_sheet(frames) * 255).round().byte().numpy()
            picture = "JPEG", Image.fromarray(sheet), LONGEST_SIDE
        self.bar.update_absolute(done, total, picture)
        if text and self.node_id is not None:
            from server import PromptServer  # only there once the server runs

            PromptServer.instance.send_progress_text(text, self.node_id, PromptServer.instance.client_id)
