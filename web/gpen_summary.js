// Shows what a restoring node says of its run (the output `summary`) on the node itself.
import { app } from "../../scripts/app.js"

const WIDGET = "summary_text"

function addTextWidget(node) {
  const area = document.createElement("textarea")
  area.className = "comfy-multiline-input"
  area.readOnly = true
  const widget = node.addDOMWidget(WIDGET, "customtext", area, {
    getValue: () => area.value,
    setValue: (text) => (area.value = text),
    serialize: false, // not sent with a prompt
  })
  widget.serialize = false // nor saved with the graph
  const [width, height] = node.computeSize()
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  return widget
}

function show(node, text) {
  const widget = node.widgets?.find((one) => one.name === WIDGET) ?? addTextWidget(node)
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
