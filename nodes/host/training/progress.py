"""How a training shows on its node: a bar, a line of text, and the newest preview clip."""

import comfy.utils
from comfy_execution.utils import get_executing_context


class NodeProgress:
    """Of the node at work when this is made; it may be moved from another thread."""

    def __init__(self):
        self.context = get_executing_context()
        self.bar = comfy.utils.ProgressBar(1, node_id=self.context.node_id if self.context else None)

    def show(self, done: int, total: int, text: str = "") -> None:
        self.bar.update_absolute(done, total)
        if text and self.context:
            server = _server()
            server.send_progress_text(text, self.context.node_id, server.client_id)

    def play(self, shown: dict) -> None:
        """shown: what a node returns as its "ui", shown before it ends.

        A preview of the bar would be a still, and would hide the clip that the node shows at its end.
        """
        if self.context:
            server, node_id = _server(), self.context.node_id
            message = {"node": node_id, "display_node": node_id, "output": shown, "prompt_id": self.context.prompt_id}
            server.send_sync("executed", message, server.client_id)


def _server():
    from server import PromptServer  # only there once the server runs

    return PromptServer.instance
