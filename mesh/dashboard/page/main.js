// State of the page, deep links (#plan=ID&service=NAME) and wiring.

import { listen, pauseButton } from "./act.js";
import { call, clock, dropToken, h, poll, seconds, setToken, show, takeToken, token } from "./api.js";
import { Graph } from "./graph.js";
import { choose, ended, planList, planPanel } from "./plan.js";
import { openReport } from "./report.js";
import { proxyTable, servicePanel } from "./tables.js";

const $ = (id) => document.getElementById(id);
const state = { status: null, topology: null, symptoms: [], plans: [], proxies: [], skew: 0, lost: null, rounds: 0 };
let stop = null;
const graph = new Graph($("graph"), (name) => link({ service: name }));

// The address says what is shown.
const shown = () => new URLSearchParams(location.hash.slice(1));

function link(change) {
  const params = shown();
  for (const [name, value] of Object.entries(change)) params.set(name, value);
  location.hash = params.toString().replaceAll("%2F", "/");
}

addEventListener("hashchange", () => {
  takeToken();
  draw();
});

async function refresh() {
  const wanted = shown().get("plan");
  const asked = [call("GetStatus"), call("GetTopology"), call("ListSymptoms"), call("ListPlans", { pageSize: 50 })];
  if (state.rounds % 3 === 0) asked.push(call("ListProxies"));
  const [status, topology, symptoms, plans, proxies] = await Promise.all(asked);
  state.rounds++;
  state.status = status;
  state.topology = topology;
  state.symptoms = symptoms.symptoms || [];
  state.plans = plans.plans || [];
  if (proxies) state.proxies = proxies.proxies || [];
  if (wanted && !state.plans.some((p) => p.id === wanted)) {
    const one = await call("GetPlan", { id: wanted }).catch((e) => { if (e.code !== "not_found" && e.code !== "invalid_argument") throw e; });
    if (one) state.plans.push(one.plan);
  }
  state.skew = topology.at ? Date.parse(topology.at) - Date.now() : 0;
  draw();
}

function connection(trouble) {
  state.lost = trouble ? state.lost || { since: Date.now() } : null;
  if (!trouble) {
    $("link").className = "live";
    $("link").replaceChildren(h("i", { class: "dot good" }), "live");
    document.body.classList.remove("stale");
    return;
  }
  if (trouble.error.code === "unauthenticated") {
    leave("The token is not valid here: " + trouble.error.message);
    return;
  }
  state.lost.retryAt = trouble.retryAt;
  state.lost.why = trouble.error.message;
  document.body.classList.add("stale");
  tell();
}

// tell says since when the connection is lost and when it is tried again.
function tell() {
  if (!state.lost) return;
  $("link").className = "lost";
  const wait = Math.max(0, Math.ceil((state.lost.retryAt - Date.now()) / 1000));
  $("link").replaceChildren(h("i", { class: "dot bad" }),
    `No data since ${clock(state.lost.since)}: ${state.lost.why}; again in ${wait} s`);
}

function draw() {
  if (!state.topology) return;
  const id = shown().get("plan");
  const plan = choose(state.plans, id);
  const now = Date.now() + state.skew;
  const service = shown().get("service") || state.symptoms[0]?.service || plan?.restartSet?.[0] || "";
  drawStatus();
  drawBanners();
  graph.update(state.topology, { restart: new Set(plan && !ended(plan) ? plan.restartSet || [] : []), selected: service });
  const moment = plan && !ended(plan) && (plan.steps || []).some((s) => s.state === "running") ? now : 0;
  const me = { name: state.status.caller, role: state.status.role };
  show($("plan"), [plan, id, moment, me], () => planPanel(plan, now, plan ? "" : id, me));
  show($("pause"), [state.status.paused, me], () => pauseButton(state.status.paused, me));
  show($("plans"), [state.plans.map((p) => [p.id, p.phase, p.ended]), plan?.id], () => planList(state.plans, plan?.id));
  show($("service"), [state.topology, service, state.symptoms], () => servicePanel(state.topology, service, state.symptoms));
  show($("proxies"), state.proxies, () => proxyTable(state.proxies));
  document.title = (state.symptoms.length ? `(${state.symptoms.length}) ` : "") + "Sluice" + (plan && !ended(plan) ? " – " + plan.phase : "");
}

function drawStatus() {
  const v = state.status;
  const pairs = [
    ["Mode", v.mode || "–"], ["Services", v.services || 0], ["Instances", v.instances || 0],
    ["Proxies", v.proxies || 0], ["Envoy", v.envoyVersion || "–"], ["Plans running", v.runningPlans || 0],
    ["You", v.caller ? `${v.caller} (${v.role})` : "–"],
    ["Epoch", (v.epoch || "–").replace("sha256:", "").slice(0, 10)], ["Sluice", v.version || "–"],
  ];
  show($("status"), pairs, () => pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}

function drawBanners() {
  const v = state.status;
  const list = [];
  if (v.frozen) list.push(["bad", "Frozen: " + v.frozen]);
  if (v.paused) list.push(["warn", "Paused: no new step starts until sluice resume --all"]);
  for (const s of state.symptoms) list.push(["bad", `Symptom: ${s.service} since ${clock(s.onset)}, ${s.evidence}`]);
  show($("banners"), list, () => list.map(([tone, text]) => h("p", { class: "banner " + tone }, text)));
}

function enter() {
  $("login").hidden = true;
  $("board").hidden = false;
  $("leave").hidden = false;
  stop?.();
  stop = poll(refresh, connection);
}

function leave(why) {
  stop?.();
  stop = null;
  dropToken();
  state.lost = null;
  $("board").hidden = true;
  $("leave").hidden = true;
  $("login").hidden = false;
  $("login-error").textContent = why;
  $("link").replaceChildren();
  $("banners").replaceChildren();
  delete $("banners").dataset.shown;
  $("token").focus();
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  setToken($("token").value);
  $("token").value = "";
  enter();
});
$("leave").addEventListener("click", () => leave(""));
listen($("ask"), () => refresh().catch(() => {}), (plan) => openReport($("report"), plan));
$("zoom-in").addEventListener("click", () => graph.zoom(0.75));
$("zoom-out").addEventListener("click", () => graph.zoom(1 / 0.75));
$("zoom-fit").addEventListener("click", () => graph.fit());

setInterval(() => {
  tell();
  document.querySelectorAll("[data-live]").forEach((e) => {
    e.textContent = seconds(Math.max(0, Date.now() + state.skew - Date.parse(e.dataset.live)));
  });
}, 1000);

takeToken();
if (token()) enter();
else leave("");
