// What a person may do: approve, abort, pause, resume, read the report. Each act is asked
// for once more in a dialog that says what it will do; the API decides whether it is done.

import { call, h } from "./api.js";

const steers = (me) => me.role === "approver" || me.role === "admin";

// bus carries what is asked for from the buttons, which come and go, to the dialog.
const bus = new EventTarget();
const send = (act) => bus.dispatchEvent(new CustomEvent("act", { detail: act }));

// acts are the buttons of a plan.
export function acts(plan, me, over) {
  const buttons = [];
  if (plan.phase === "held" && steers(me)) {
    const own = plan.proposer === me.name;
    buttons.push(h("button", {
      type: "button", class: "go", "data-key": "approve", disabled: own,
      title: own ? "somebody else has to approve your own plan" : null,
      onclick: () => send({ kind: "approve", plan }),
    }, "Approve…"));
  }
  if (!over && steers(me)) {
    buttons.push(h("button", { type: "button", class: "stop", "data-key": "abort", onclick: () => send({ kind: "abort", plan }) }, "Abort…"));
  }
  buttons.push(h("button", { type: "button", "data-key": "report", onclick: () => send({ kind: "report", plan }) }, "Report"));
  return h("div", { class: "acts" }, buttons);
}

// pauseButton pauses or resumes everything; nothing for those who may not.
export function pauseButton(paused, me) {
  if (!steers(me)) return [];
  const kind = paused ? "resume" : "pause";
  return h("button", { type: "button", class: paused ? "go" : "stop", "data-key": "pause", onclick: () => send({ kind }) },
    paused ? "Resume…" : "Pause all…");
}

// listen asks in the dialog for what is sent, does it, and calls done; reports go to report.
export function listen(dialog, done, report) {
  bus.addEventListener("act", ({ detail }) => {
    if (detail.kind === "report") report(detail.plan);
    else ask(dialog, questions[detail.kind](detail.plan), done);
  });
}

const list = (names, most = 12) => {
  if (!names || !names.length) return "none";
  return names.length > most ? names.slice(0, most).join(", ") + `, and ${names.length - most} more` : names.join(", ");
};

const questions = {
  approve: (plan) => ({
    title: "Approve " + plan.id + "?",
    text: [
      h("p", {}, `${plan.proposer} proposed it; it is held for ${plan.code || "approval"}. It is checked again when you approve.`),
      h("dl", { class: "sets" },
        h("dt", {}, "Restarts"), h("dd", {}, list(plan.restartSet)),
        h("dt", {}, "Reached by"), h("dd", {}, `${(plan.blastRadius || []).length} services: ${list(plan.blastRadius)}`)),
      h("pre", { tabindex: 0 }, plan.program || ""),
    ],
    verb: "Approve", tone: "go", method: "ApprovePlan", request: () => ({ id: plan.id }),
  }),
  abort: (plan) => ({
    title: "Abort " + plan.id + "?",
    text: [h("p", {}, "No further step starts. What was done and can be undone is undone in reverse order; a restart under way is waited for.")],
    reason: true, verb: "Abort", tone: "stop", method: "AbortPlan", request: (reason) => ({ id: plan.id, reason }),
  }),
  pause: () => ({
    title: "Pause everything?",
    text: [h("p", {}, "No plan starts a new step until somebody resumes, except to restore traffic. Drains stay until their leases end.")],
    reason: true, verb: "Pause", tone: "stop", method: "Pause", request: (reason) => ({ reason }),
  }),
  resume: () => ({
    title: "Resume?",
    text: [h("p", {}, "Plans go on where they are. For an admin this clears a freeze as well.")],
    verb: "Resume", tone: "go", method: "Resume", request: () => ({}),
  }),
};

// ask shows a question; its dialog stays open with the API's words if that refuses.
function ask(dialog, question, done) {
  const error = h("p", { class: "error", role: "alert" });
  const reason = question.reason ? h("input", { id: "ask-reason", type: "text", maxlength: 256, required: true, autocomplete: "off" }) : null;
  const go = h("button", { type: "submit", class: question.tone }, question.verb);
  const form = h("form", { method: "dialog" },
    h("h2", { id: "ask-title" }, question.title), question.text,
    reason ? [h("label", { for: "ask-reason" }, "Reason, for the record"), reason] : null,
    error,
    h("div", { class: "acts" }, go, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await call(question.method, question.request(reason?.value.trim()));
      dialog.close();
      done();
    } catch (e) {
      error.textContent = `${e.code}: ${e.message}`;
      go.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  (reason || go).focus();
}
