// The selected service, and the proxies.

import { clock, h, millis, percent, rate } from "./api.js";

// servicePanel draws one service of the topology with its edges and instances.
export function servicePanel(topology, name, symptoms) {
  const service = (topology.services || []).find((v) => v.name === name);
  if (!service) {
    return [h("h2", { id: "service-title" }, "Service"),
      h("p", { class: "empty" }, name ? `${name} is not a service of the mesh.` : "Choose a service in the graph.")];
  }
  const symptom = symptoms.find((v) => v.service === name);
  return [
    h("div", { class: "card-head" }, h("h2", { id: "service-title" }, name),
      h("span", { class: "chip " + ({ healthy: "good", symptom: "bad" }[service.health] || "") }, service.health || "unknown"),
      service.drained ? h("span", { class: "chip warn" }, "drained") : null),
    symptom ? h("p", { class: "waiting bad" }, h("b", {}, `Since ${clock(symptom.onset)}: `), symptom.evidence) : null,
    h("dl", { class: "figures" },
      figure("Rate", rate(service.rate)), figure("Errors", percent(service.errorShare)), figure("p99", millis(service.p99Seconds)),
      figure("Fan-in", service.fanIn || 0), figure("Blast radius", service.blastRadius || 0),
      figure("Objective", objective(service))),
    instances(service),
    edges(topology, name),
  ];
}

const figure = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)));

function objective(service) {
  const parts = [];
  if (service.objectiveP99Seconds) parts.push("p99 ≤ " + millis(service.objectiveP99Seconds));
  if (service.objectiveErrors) parts.push("errors ≤ " + percent(service.objectiveErrors));
  return parts.join(", ") || "none";
}

function instances(service) {
  if (!(service.instances || []).length) return h("p", { class: "empty" }, "No instance.");
  return h("table", {}, h("caption", {}, "Instances"),
    h("thead", {}, h("tr", {}, ["Instance", "State", "Incarnation", "Address"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, service.instances.map((i) => h("tr", {},
      h("td", {}, i.name), h("td", {}, h("span", { class: "chip " + (i.state === "ready" ? "good" : "warn") }, i.state)),
      h("td", { class: "number" }, i.incarnation || "–"), h("td", {}, h("code", {}, i.address || "–"))))));
}

function edges(topology, name) {
  const list = (topology.edges || []).filter((e) => e.caller === name || e.callee === name);
  if (!list.length) return h("p", { class: "empty" }, "No call seen yet.");
  return h("table", {}, h("caption", {}, "Calls"),
    h("thead", {}, h("tr", {}, ["Edge", "Calls", "Errors", "p99", "Seen by"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, list.map((e) => h("tr", {},
      h("td", {}, e.caller === name ? "→ " + e.callee : "← " + e.caller, e.sticky ? h("span", { class: "chip warn small" }, "sticky") : null),
      h("td", { class: "number" }, Number(e.calls || 0).toLocaleString("en")),
      h("td", { class: "number" }, percent(Number(e.errors || 0) / Math.max(1, Number(e.calls || 0)))),
      h("td", { class: "number" }, millis(e.p99Seconds)), h("td", {}, (e.sources || []).join(", "))))));
}

const kinds = ["cds", "eds", "lds", "rds", "rtds"];

// proxyTable lists the proxies, those in trouble first.
export function proxyTable(proxies) {
  if (!proxies.length) return h("p", { class: "empty" }, "None has connected.");
  const trouble = (p) => (p.connected ? ((p.types || []).some((t) => t.nack) ? 1 : 2) : 0);
  const sorted = [...proxies].sort((a, b) => trouble(a) - trouble(b) || (a.node < b.node ? -1 : 1));
  return h("div", { class: "scroll", "data-scroll": true, tabindex: 0, role: "region", "aria-label": "List of proxies" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Node", "Service", "State", ...kinds.map((k) => k.toUpperCase()), "In force"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, sorted.map((p) => h("tr", {},
      h("td", {}, p.node), h("td", {}, p.service || "–"),
      h("td", {}, h("span", { class: "chip " + (p.connected ? "good" : "bad") }, p.connected ? "connected" : "gone")),
      kinds.map((kind) => h("td", {}, state((p.types || []).find((t) => t.type === kind)))),
      h("td", {}, (p.overlays || []).join(", ") || "–"))))));
}

function state(type) {
  if (!type) return "–";
  if (type.nack) return h("span", { class: "chip bad small", title: type.nack }, "NACK");
  if (type.acked !== type.version) return h("span", { class: "chip warn small", title: `sent ${type.version}, ACKed ${type.acked || "nothing"}` }, "waits");
  return h("span", { class: "ok", title: `version ${type.version}, ${type.resources || 0} resources` }, "✓");
}
