// One plan as a timeline with its gates, and the list of plans.

import { acts } from "./act.js";
import { clock, h, seconds } from "./api.js";

const final = ["committed", "compensated", "frozen", "refused"];
export const ended = (plan) => final.includes(plan.phase);

const tone = {
  committed: "good", confirmed: "good", admit: "good", clean: "good",
  compensated: "bad", frozen: "bad", refused: "bad", failed: "bad", reject: "bad", harm: "bad", "not-recovered": "bad",
  held: "warn", hold: "warn", throttle: "warn", compensating: "warn", undone: "warn", inconclusive: "warn",
  running: "live", verifying: "live", queued: "live", replayed: "live",
};

export const chip = (word) => h("span", { class: "chip " + (tone[word] || "") }, word || "–");

const label = {
  drain: "drain", restart: "restart", restoreTraffic: "restore", circuitBreak: "circuit break",
  rateLimit: "rate limit", scale: "scale", rollbackConfig: "roll back", await: "await",
};

const sign = { confirmed: "✓", running: "", failed: "✗", undone: "↺", waiting: "" };

// choose picks the plan to show: the named one, else the newest that runs or is held,
// else the newest.
export function choose(plans, id) {
  if (id) return plans.find((p) => p.id === id) || null;
  return plans.find((p) => !ended(p)) || plans[0] || null;
}

// planPanel draws a plan; now is the server's time in ms, me is who looks.
export function planPanel(plan, now, missing, me) {
  if (!plan) {
    return [h("h2", { id: "plan-title", tabindex: -1 }, "Plan"),
      h("p", { class: "empty" }, missing ? `No plan ${missing} is remembered.` : "No plan yet. Propose one with sluice restart NAMESPACE/NAME."),
      missing && h("p", {}, h("a", { href: "#" }, "Show the newest plan"))];
  }
  const start = Date.parse(plan.proposed);
  const end = plan.ended ? Date.parse(plan.ended) : Math.max(now, latest(plan, start));
  const span = Math.max(end - start, 500);
  return [
    h("div", { class: "card-head" },
      h("h2", { id: "plan-title", tabindex: -1 }, plan.id), chip(plan.phase),
      h("span", { class: "clock", "data-live": ended(plan) ? undefined : plan.proposed }, seconds(end - start))),
    h("p", { class: "facts" },
      `Proposed by ${plan.proposer || "–"} at ${clock(plan.proposed)}`,
      plan.approver ? `, approved by ${plan.approver}` : "", ". Verdict ", chip(plan.verdict), plan.code ? " " + plan.code : ""),
    note(plan),
    acts(plan, me, ended(plan)),
    faults(plan),
    (plan.steps || []).length ? h("ol", { class: "steps", "aria-label": "Steps, from the proposal on the left to now on the right" },
      plan.steps.map((step) => row(step, plan, start, end, span))) : null,
    (plan.steps || []).some((step) => step.started) ? axis(span) : null,
    harm(plan),
    sets(plan),
    plan.program ? h("details", { class: "program", "data-key": "program", open: plan.phase === "held" }, h("summary", { "data-key": "program-summary" }, "Program that runs"), h("pre", { tabindex: 0, "data-scroll": true }, plan.program)) : null,
  ];
}

// latest is the last thing known of a plan, in ms.
function latest(plan, start) {
  return Math.max(start, ...(plan.steps || []).flatMap((s) => [s.started, s.acked, s.ended].filter(Boolean).map(Date.parse)));
}

function note(plan) {
  if (plan.waiting && !ended(plan)) {
    return h("p", { class: "waiting" }, h("b", {}, plan.phase === "held" ? "Held: " : "Waits for: "), plan.waiting,
      plan.phase === "held" ? h("code", { class: "command" }, "sluice approve " + plan.id) : null);
  }
  return plan.reason ? h("p", { class: "waiting bad" }, h("b", {}, "Reason: "), plan.reason) : null;
}

function faults(plan) {
  if (!(plan.faults || []).length) return null;
  return h("ul", { class: "faults" }, plan.faults.map((f) =>
    h("li", {}, h("b", {}, f.code), " ", f.path ? h("code", {}, f.path) : null, " ", f.reason, f.remedy ? h("span", { class: "remedy" }, " Remedy: " + f.remedy) : null)));
}

function row(step, plan, start, end, span) {
  const from = step.started ? Date.parse(step.started) : null;
  const to = step.ended ? Date.parse(step.ended) : from === null ? null : end;
  const at = (t) => Math.min(100, Math.max(0, ((t - start) / span) * 100));
  const bar = h("div", { class: "track", "aria-hidden": "true" });
  if (from !== null) {
    const fill = h("div", { class: "bar " + step.action + " " + step.state });
    fill.style.left = at(from) + "%";
    fill.style.width = Math.max(0.8, at(to) - at(from)) + "%";
    bar.append(fill);
    if (step.acked) {
      const tick = h("i", { class: "ack", title: "all proxies ACKed" });
      tick.style.left = at(Date.parse(step.acked)) + "%";
      bar.append(tick);
    }
  }
  const took = from === null ? "" : seconds((step.ended ? to : end) - from);
  return h("li", { class: "step " + step.state },
    h("div", { class: "what" },
      h("span", { class: "mark", role: "img", "aria-label": step.state }, sign[step.state] ?? ""),
      h("span", { class: "action" }, label[step.action] || step.action),
      h("span", { class: "target" }, step.target || ""),
      h("span", { class: "took" }, took)),
    from === null ? null : bar,
    gate(step));
}

// gate states the evidence at a step's gate, in words and figures.
function gate(step) {
  const facts = [];
  const required = step.required || 0;
  if (required) facts.push(fact("ACKs", `${step.acks || 0}/${required}`, (step.acks || 0) >= required));
  if (step.action === "drain" && step.state !== "waiting" && (step.proofGrade || step.acked)) {
    facts.push(fact("in flight", String(step.inFlightAtGate || 0), !step.inFlightAtGate));
  }
  if (step.proofGrade) facts.push(fact("grade", step.proofGrade, true));
  if (step.cut) facts.push(fact("cut", String(step.cut), false));
  const waiting = step.waiting && step.state === "running" ? h("span", { class: "why" }, step.waiting) : null;
  if (!facts.length && !waiting) return null;
  return h("div", { class: "gate" }, facts, waiting);
}

const fact = (name, value, met) => h("span", { class: "fact " + (met ? "met" : "open") }, name + " ", h("b", {}, value));

function axis(span) {
  const line = h("div", { class: "axis", "aria-hidden": "true" });
  for (const part of [0, 0.25, 0.5, 0.75, 1]) line.append(h("span", {}, part === 0 ? "0 s" : seconds(span * part)));
  return line;
}

function harm(plan) {
  if (!plan.harm && !plan.harmEvidence) return null;
  return h("p", { class: "facts" }, "Harm ", chip(plan.harm), " ", plan.harmEvidence || "");
}

function sets(plan) {
  const list = (names) => (names && names.length ? names.join(", ") : "none");
  return h("dl", { class: "sets" },
    h("dt", {}, "Restart set"), h("dd", {}, list(plan.restartSet)),
    h("dt", {}, "Blast radius"), h("dd", {}, list(plan.blastRadius)));
}

// planList draws the list of plans.
export function planList(plans, shown) {
  if (!plans.length) return h("p", { class: "empty" }, "None yet.");
  return h("div", { class: "scroll", "data-scroll": true, tabindex: 0, role: "region", "aria-label": "List of plans" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Plan", "Phase", "Proposer", "Restarts", "Took"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, plans.map((p) => h("tr", { class: p.id === shown ? "shown" : "" },
      h("td", { class: "id" }, h("a", { href: "#plan=" + p.id, "data-key": "plan-" + p.id, "aria-current": p.id === shown ? "true" : null }, p.id)),
      h("td", {}, chip(p.phase)),
      h("td", {}, p.proposer || "–"),
      h("td", {}, (p.restartSet || []).join(", ") || "–"),
      h("td", { class: "number" }, p.ended ? seconds(Date.parse(p.ended) - Date.parse(p.proposed)) : "–"))))));
}
