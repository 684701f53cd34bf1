// Clips that our nodes show play by themselves, muted and in a loop; ComfyUI's own player waits for a click and stops.
import { app } from "../../scripts/app.js";

const shown = new Set(); // names of files that our nodes have shown on this page

function play(video) {
  const source = video.currentSrc || video.src || video.querySelector("source")?.src;
  if (!source) return;
  if (!shown.has(new URL(source, location.href).searchParams.get("filename"))) return;
  video.loop = true;
  video.muted = true; // else browsers do not let it begin
  video.playsInline = true;
  video.play().catch(() => {}); // the user may have switched that off
}

function playInside(element) {
  if (element instanceof HTMLVideoElement) play(element);
  else element.querySelectorAll?.("video").forEach(play);
}

app.registerExtension({
  name: "animatic.ClipPlayer",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Animatic")) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      if (output?.animated?.[0]) output.images?.forEach((file) => shown.add(file.filename));
      onExecuted?.apply(this, arguments);
      playInside(document);
    };
  },
  setup() {
    new MutationObserver((changes) => {
      for (const change of changes) {
        if (change.type === "attributes") playInside(change.target);
        else change.addedNodes.forEach(playInside);
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
  },
});
