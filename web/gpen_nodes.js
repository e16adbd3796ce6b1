// Shows the summary or the error on GPEN nodes, hides advanced inputs, sets the nodes' width, and tells which model a node uses.
import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const TEXT_WIDGET = "summary_text"
const PROGRESS_WIDGET = "$$node-text-preview" // ComfyUI's widget for the current step
const TEXT_HEIGHT = 90 // pixels, at least
const MIN_WIDTH = 340 // pixels, so that file names fit

const SKIPPED_MODES = [2, 4] // muted and bypassed nodes pass nothing on

const isOurs = (definition) => definition?.name?.startsWith("GPEN_")
const hasSummary = (definition) => isOurs(definition) && (definition.output_name ?? []).includes("summary")

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

// The id of a node in a subgraph starts with the ids of the subgraphs' nodes: "12:5".
function findNode(id) {
  let graph = app.rootGraph ?? app.graph
  let node = null
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById(part) ?? null
    graph = node?.subgraph
  }
  return hasSummary(node?.constructor.nodeData) ? node : null
}

const heights = new WeakMap() // of nodes that run: the text of the current step makes them higher

// The summary of an earlier run says nothing of this one, which may fail or be cancelled.
function begin(node) {
  heights.set(node, node.size[1])
  const widget = node.widgets?.find((one) => one.name === TEXT_WIDGET)
  if (widget) widget.value = ""
}

function end(node, text) {
  const progress = node.widgets?.find((one) => one.name === PROGRESS_WIDGET)
  if (progress) {
    node.removeWidget(progress)
    node.setSize([node.size[0], heights.get(node) ?? node.size[1]])
  }
  if (text) show(node, text)
}

// The classic canvas shows advanced inputs until their widgets are marked as advanced, too.
function foldAdvanced(node, definition) {
  const inputs = { ...definition.input?.required, ...definition.input?.optional }
  for (const widget of node.widgets ?? []) {
    if (inputs[widget.name]?.[1]?.advanced) widget.advanced = true
  }
}

// A linked gpen_model replaces the node's own model, so that widget is then gray.
function watchModel(node) {
  const widget = node.widgets?.find((one) => one.name === "model")
  const slot = node.inputs?.findIndex((one) => one.name === "gpen_model") ?? -1
  if (!widget || slot < 0) return
  const loader = () => node.getInputNode(slot)
  const isSkipped = () => SKIPPED_MODES.includes(loader()?.mode)
  let disabled = widget.disabled
  Object.defineProperty(widget, "disabled", {
    configurable: true,
    enumerable: true,
    get: () => !!disabled || (!!loader() && !isSkipped()),
    set: (value) => (disabled = value),
  })
  const before = widget.beforeQueued
  widget.beforeQueued = function () {
    before?.apply(this, arguments)
    if (!isSkipped()) return
    const detail = `${loader().title} is bypassed or muted. This node uses its own model: ${widget.value}.`
    app.extensionManager?.toast?.add({ severity: "warn", summary: node.title, detail, life: 8000 })
  }
}

app.registerExtension({
  name: "gpen.nodes",
  beforeRegisterNodeDef(nodeType, definition) {
    if (!hasSummary(definition)) return
    const before = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments)
      if (output?.text?.length) end(this, output.text.join("\n"))
    }
  },
  setup() {
    const on = (type, act) =>
      api.addEventListener(type, ({ detail }) => {
        const node = findNode(detail?.node_id ?? detail)
        if (node) act(node, detail)
      })
    on("executing", begin)
    on("execution_error", (node, detail) => end(node, detail.exception_message))
    on("execution_interrupted", (node) => end(node, ""))
  },
  nodeCreated(node) {
    const definition = node.constructor.nodeData
    if (!isOurs(definition)) return
    foldAdvanced(node, definition)
    watchModel(node)
    const [width, height] = node.computeSize()
    node.setSize([Math.max(width, MIN_WIDTH), height])
  },
})
