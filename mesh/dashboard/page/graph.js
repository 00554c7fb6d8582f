// The call graph as SVG. Elements are kept from poll to poll; only what changed is
// touched. The layout is computed anew only when services or edges come or go.

import { box, layout } from "./layout.js";
import { millis, percent, rate } from "./api.js";

const ns = "http://www.w3.org/2000/svg";

function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(ns, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

export class Graph {
  constructor(svg, select) {
    this.svg = svg;
    this.select = select;
    this.nodes = new Map();
    this.edges = new Map();
    this.before = new Map(); // edge -> {calls, errors, at} of the poll before
    this.view = null;
    this.touched = false; // the user has panned or zoomed
    const arrow = s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse", markerUnits: "userSpaceOnUse" },
      s("path", { d: "M0 0.5 8 4 0 7.5z", class: "arrow" }));
    const hatch = s("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      s("rect", { width: 2.5, height: 7, class: "hatch" }));
    this.layers = { edges: s("g"), nodes: s("g") };
    svg.append(s("defs", {}, arrow, hatch), this.layers.edges, this.layers.nodes);
    this.gestures();
    new ResizeObserver(() => this.touched || this.fit()).observe(svg);
  }

  // update draws a GetTopology answer; marks says which services a plan restarts and
  // which one is selected.
  update(topology, marks) {
    const services = new Map((topology.services || []).map((v) => [v.name, v]));
    const edges = topology.edges || [];
    const names = new Set(services.keys());
    for (const e of edges) names.add(e.caller).add(e.callee);
    const shape = JSON.stringify([[...names], edges.map((e) => [e.caller, e.callee])]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.placed = layout(names, edges);
      this.rebuild([...names].sort(), edges);
      if (!this.touched) this.fit();
    }
    const common = commonNamespace([...services.keys()]);
    for (const [name, node] of this.nodes) this.paintNode(node, name, services.get(name), marks, common);
    for (const e of edges) this.paintEdge(e, services, topology.at);
  }

  rebuild(names, edges) {
    this.layers.nodes.replaceChildren();
    this.layers.edges.replaceChildren();
    this.nodes.clear();
    this.edges.clear();
    for (const e of edges) {
      if (e.caller === e.callee) continue;
      const path = s("path", { class: "edge", d: curve(this.placed.nodes.get(e.caller), this.placed.nodes.get(e.callee)), "marker-end": "url(#arrow)" });
      const title = s("title");
      path.append(title);
      this.edges.set(e.caller + ">" + e.callee, { path, title });
      this.layers.edges.append(path);
    }
    for (const name of names) {
      const node = this.node(name);
      this.nodes.set(name, node);
      this.layers.nodes.append(node.group);
    }
  }

  node(name) {
    const { x, y } = this.placed.nodes.get(name);
    const { width, height } = box;
    const node = {
      group: s("g", { class: "node", transform: `translate(${x} ${y})`, tabindex: 0, role: "button" }),
      label: s("text", { x: 13, y: 21, class: "name" }),
      figures: s("text", { x: 13, y: 39, class: "figures" }),
      badge: s("rect", { y: -9, height: 17, rx: 8.5, class: "badge" }),
      tag: s("text", { y: 3.5, class: "tag", "text-anchor": "middle" }),
      title: s("title"),
    };
    node.group.append(node.title,
      s("rect", { x: -4, y: -4, width: width + 8, height: height + 8, rx: 11, class: "ring" }),
      s("rect", { width, height, rx: 8, class: "body" }),
      s("rect", { width, height, rx: 8, class: "veil" }),
      s("path", { d: `M5 ${height} h-0 a5 5 0 0 1 -5 -5 v${10 - height} a5 5 0 0 1 5 -5 z`, class: "stripe" }),
      node.label, node.figures, node.badge, node.tag);
    node.group.addEventListener("click", () => this.moved || this.select(name));
    node.group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.select(name);
    });
    return node;
  }

  paintNode(node, name, service, marks, common) {
    const outside = !service;
    const health = outside ? "outside" : service.health || "unknown";
    const drained = !!service?.drained;
    const restart = marks.restart.has(name);
    const classes = ["node", health, drained && "drained", restart && "restart", marks.selected === name && "selected"];
    set(node.group, "class", classes.filter(Boolean).join(" "));
    text(node.label, short(outside ? name : common ? name.slice(common.length + 1) : name));
    const instances = service?.instances || [];
    const ready = instances.filter((i) => i.state === "ready").length;
    const trouble = !outside && ready < instances.length;
    const figures = outside ? "outside the mesh"
      : `${rate(service.rate)}  ${millis(service.p99Seconds)}` + (service.errorShare ? `  ${percent(service.errorShare)} err` : "");
    text(node.figures, figures);
    const tag = drained ? "drained" : trouble ? `${ready}/${instances.length} ready` : health === "symptom" ? "symptom" : "";
    const wide = tag ? tag.length * 6.8 + 14 : 0;
    text(node.tag, tag);
    set(node.tag, "x", String(box.width - 8 - wide / 2));
    set(node.badge, "x", String(box.width - 8 - wide));
    set(node.badge, "width", String(wide));
    const words = outside ? `${name}, outside the mesh` : [name, drained ? "drained" : health,
      `${rate(service.rate)}, errors ${percent(service.errorShare)}, p99 ${millis(service.p99Seconds)}`,
      `${ready} of ${instances.length} ready`, restart && "in the plan's restart set"].filter(Boolean).join(", ");
    set(node.group, "aria-label", words);
    text(node.title, words);
  }

  paintEdge(e, services, at) {
    const edge = this.edges.get(e.caller + ">" + e.callee);
    if (!edge) return;
    const now = { calls: Number(e.calls || 0), errors: Number(e.errors || 0), at: Date.parse(at) };
    const id = e.caller + ">" + e.callee;
    const past = this.before.get(id) || { list: [] };
    if (!past.list.length || past.list[past.list.length - 1].at !== now.at) past.list.push(now);
    while (past.list.length > 6) past.list.shift();
    this.before.set(id, past);
    const first = past.list[0];
    const span = (now.at - first.at) / 1000;
    const perSecond = span > 0 ? Math.max(0, now.calls - first.calls) / span : null;
    const errors = now.calls > first.calls ? (now.errors - first.errors) / (now.calls - first.calls) : 0;
    const drained = services.get(e.callee)?.drained;
    const classes = ["edge", e.sticky && "sticky", drained && "drained", errors > 0.01 && "bad"];
    set(edge.path, "class", classes.filter(Boolean).join(" "));
    set(edge.path, "stroke-width", (1.2 + Math.min(3.5, Math.log10(1 + (perSecond ?? 1)))).toFixed(1));
    text(edge.title, `${e.caller} → ${e.callee}: ${perSecond === null ? now.calls + " calls" : rate(perSecond)}, ` +
      `${percent(errors)} errors lately, p99 ${millis(e.p99Seconds)}${e.sticky ? ", sticky" : ""}; seen by ${(e.sources || []).join(", ")}`);
  }

  // fit shows all of the graph.
  fit() {
    this.touched = false;
    if (!this.placed) return;
    const margin = 18;
    const width = this.svg.clientWidth || 800, height = this.svg.clientHeight || 400;
    const scale = Math.min(width / (this.placed.width + 2 * margin), height / (this.placed.height + 2 * margin), 1.25);
    const w = width / scale, hgt = height / scale;
    this.look({ x: (this.placed.width - w) / 2, y: (this.placed.height - hgt) / 2, w, h: hgt });
  }

  look(view) {
    this.view = view;
    this.svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
  }

  // zoom by factor around a point of the picture, the middle if there is none.
  zoom(factor, at) {
    if (!this.view) return;
    const v = this.view;
    const least = 160, most = 40 * Math.max(this.placed.width, 400);
    const w = Math.min(Math.max(v.w * factor, least), most);
    const real = w / v.w;
    const p = at || { x: v.x + v.w / 2, y: v.y + v.h / 2 };
    this.touched = true;
    this.look({ x: p.x - (p.x - v.x) * real, y: p.y - (p.y - v.y) * real, w, h: v.h * real });
  }

  gestures() {
    const svg = this.svg;
    const point = (event) => {
      const r = svg.getBoundingClientRect();
      return { x: this.view.x + ((event.clientX - r.left) / r.width) * this.view.w, y: this.view.y + ((event.clientY - r.top) / r.height) * this.view.h };
    };
    svg.addEventListener("wheel", (event) => {
      if (!this.view || !(event.ctrlKey || event.metaKey || this.touched || event.deltaMode === 0)) return;
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.0015), point(event));
    }, { passive: false });
    let from = null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.view) return;
      from = { x: event.clientX, y: event.clientY, view: this.view };
      this.moved = false;
    });
    addEventListener("pointermove", (event) => {
      if (!from) return;
      const dx = event.clientX - from.x, dy = event.clientY - from.y;
      if (Math.abs(dx) + Math.abs(dy) > 4) this.moved = this.touched = true;
      if (!this.moved) return;
      const r = svg.getBoundingClientRect();
      this.look({ ...from.view, x: from.view.x - (dx / r.width) * from.view.w, y: from.view.y - (dy / r.height) * from.view.h });
    });
    addEventListener("pointerup", () => { from = null; });
  }
}

// curve joins two boxes; within a layer, or backwards, it bows out.
function curve(a, b) {
  const middle = box.height / 2;
  const x1 = a.x + box.width, y1 = a.y + middle, y2 = b.y + middle;
  if (a.layer === b.layer) {
    const bow = 30 + Math.abs(y2 - y1) * 0.12;
    const side = a.y < b.y ? 6 : -6;
    return `M${x1} ${y1 + side}C${x1 + bow} ${y1 + side} ${x1 + bow} ${y2 + side} ${b.x + box.width + 2} ${y2 + side}`;
  }
  const x2 = b.x - 2;
  const bend = Math.max(34, Math.abs(x2 - x1) * 0.45);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

const short = (name) => (name.length > 18 ? name.slice(0, 10) + "…" + name.slice(-7) : name);

function commonNamespace(names) {
  const spaces = new Set(names.map((n) => n.split("/")[0]));
  return spaces.size === 1 ? [...spaces][0] : "";
}
