// Shows on Load Motion Module what the file was detected as. The text comes with the node's own output.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const NAME = "detected";

app.registerExtension({
  name: "Animatic.MotionModuleInfo",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "AnimaticLoadMotionModule") return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (!output?.text) return;
      let widget = this.widgets?.find((w) => w.name === NAME);
      if (!widget) {
        widget = ComfyWidgets.STRING(this, NAME, ["STRING", { multiline: true }], app).widget;
        widget.options.serialize = false; // neither sent with a prompt
        widget.serialize = false; // nor saved with a workflow
        if (widget.inputEl) widget.inputEl.readOnly = true;
      }
      widget.value = output.text.join("\n");
      const [width, height] = this.computeSize();
      this.setSize([Math.max(this.size[0], width), Math.max(this.size[1], height)]);
      this.setDirtyCanvas(true, true);
    };
  },
});
