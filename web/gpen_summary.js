// Shows what a restoring node says of its run (the output `summary`) on the node itself.
import { app } from "../../scripts/app.js"
import { ComfyWidgets } from "../../scripts/widgets.js"

const WIDGET = "summary_text"

function show(node, text) {
  let widget = node.widgets?.find((one) => one.name === WIDGET)
  if (!widget) {
    widget = ComfyWidgets.STRING(node, WIDGET, ["STRING", { multiline: true }], app).widget
    widget.serialize = false // neither saved with the graph
    widget.options.serialize = false // nor sent with a prompt
    if (widget.element) widget.element.readOnly = true
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  }
  widget.value = text
  node.setDirtyCanvas(true, true)
}

app.registerExtension({
  name: "gpen.summary",
  beforeRegisterNodeDef(nodeType, definition) {
    const saysText = definition.name.startsWith("GPEN_") && (definition.output_name ?? []).includes("summary")
    if (!saysText) return
    const before = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments)
      if (output?.text?.length) show(this, output.text.join("\n"))
    }
  },
})
