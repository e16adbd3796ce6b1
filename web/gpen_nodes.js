// Shows the summary on GPEN nodes, hides advanced inputs, and sets the nodes' width.
import { app } from "../../scripts/app.js"

const TEXT_WIDGET = "summary_text"
const TEXT_HEIGHT = 90 // pixels, at least
const MIN_WIDTH = 340 // pixels, so that file names fit

const isOurs = (definition) => definition?.name?.startsWith("GPEN_")

function addTextWidget(node) {
  const area = document.createElement("textarea")
  area.className = "comfy-multiline-input"
  area.readOnly = true
  area.style.resize = "none"
  const widget = node.addDOMWidget(TEXT_WIDGET, "gpen_text", area, {
    getValue: () => area.value,
    setValue: (text) => (area.value = text),
    getMinHeight: () => TEXT_HEIGHT,
    serialize: false, // not sent with a prompt
  })
  widget.serialize = false // nor saved with the graph
  const [width, height] = node.computeSize()
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  return widget
}

function show(node, text) {
  const widget = node.widgets?.find((one) => one.name === TEXT_WIDGET) ?? addTextWidget(node)
  widget.value = text
  node.setDirtyCanvas(true, true)
}

// The classic canvas shows advanced inputs until their widgets are marked as advanced, too.
function foldAdvanced(node, definition) {
  const inputs = { ...definition.input?.required, ...definition.input?.optional }
  for (const widget of node.widgets ?? []) {
    if (inputs[widget.name]?.[1]?.advanced) widget.advanced = true
  }
}

app.registerExtension({
  name: "gpen.nodes",
  beforeRegisterNodeDef(nodeType, definition) {
    if (!isOurs(definition) || !(definition.output_name ?? []).includes("summary")) return
    const before = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments)
      if (output?.text?.length) show(this, output.text.join("\n"))
    }
  },
  nodeCreated(node) {
    const definition = node.constructor.nodeData
    if (!isOurs(definition)) return
    foldAdvanced(node, definition)
    const [width, height] = node.computeSize()
    node.setSize([Math.max(width, MIN_WIDTH), height])
  },
})
