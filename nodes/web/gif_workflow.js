// Dropping a GIF of Video Combine on the empty canvas opens its workflow, as ComfyUI does itself for its other formats.
import { app } from "../../scripts/app.js";

const WORKFLOW = /^workflow:(.*)$/m;

// The texts of a GIF's comment extensions (0x21 0xFE, then blocks of up to 255 bytes, then an empty block).
function comments(bytes) {
  const texts = [];
  for (let at = 0; at < bytes.length - 1; at++) {
    if (bytes[at] !== 0x21 || bytes[at + 1] !== 0xfe) continue;
    const parts = [];
    let next = at + 2;
    while (next < bytes.length && bytes[next]) {
      parts.push(...bytes.subarray(next + 1, next + 1 + bytes[next]));
      next += 1 + bytes[next];
    }
    texts.push(new TextDecoder().decode(new Uint8Array(parts)));
  }
  return texts;
}

async function workflowOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const found = comments(bytes).map((text) => text.match(WORKFLOW)).find(Boolean);
  return found ? JSON.parse(found[1]) : null;
}

function overNode(event) {
  const [x, y] = app.canvas.convertEventToCanvasOffset(event);
  return Boolean(app.canvas.graph?.getNodeOnPos(x, y));
}

app.registerExtension({
  name: "animatic.GifWorkflow",
  setup() {
    window.addEventListener(
      "drop",
      (event) => {
        const file = event.dataTransfer?.files?.[0];
        if (file?.type !== "image/gif" || overNode(event)) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        workflowOf(file)
          .then((workflow) => (workflow ? app.loadGraphData(workflow) : app.handleFile(file)))
          .catch(() => app.handleFile(file));
      },
      true,
    );
  },
});
