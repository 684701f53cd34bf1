// Shows on our nodes what they have to say: what a file was detected as, what was skipped, how large an error is.
// The text comes with the node's own output.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const NAME = "info";

app.registerExtension({
  name: "animatic.NodeText",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Animatic")) return;
    // The frontend's own preview would be sent with the next prompt, which then counts as changed and runs again.
    const addDOMWidget = nodeType.prototype.addDOMWidget;
    nodeType.prototype.addDOMWidget = function (name) {
      const widget = addDOMWidget.apply(this, arguments);
      if (name === "video-preview") widget.options.serialize = false;
      return widget;
    };
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      const text = output?.text?.join("\n");
      if (!text) return;
      let widget = this.widgets?.find((w) => w.name === NAME);
      if (!widget) {
        widget = ComfyWidgets.STRING(this, NAME, ["STRING", { multiline: true }], app).widget;
        widget.options.serialize = false; // neither sent with a prompt
        widget.serialize = false; // nor saved with a workflow
        if (widget.inputEl) widget.inputEl.readOnly = true;
      }
      widget.value = text;
      const [width, height] = this.computeSize();
      this.setSize([Math.max(this.size[0], width), Math.max(this.size[1], height)]);
      this.setDirtyCanvas(true, true);
    };
  },
});
