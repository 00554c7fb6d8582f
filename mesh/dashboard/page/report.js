// The incident report of a plan, as the API writes it: its Markdown becomes elements, text
// stays text.

import { call, h } from "./api.js";

const decode = (base64) => new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));

// openReport shows the report of plan in dialog.
export async function openReport(dialog, plan) {
  const title = h("h2", { id: "report-title", tabindex: -1 }, "Report of " + plan.id);
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(h("div", { class: "card-head" }, title, close), h("p", { class: "empty" }, "Is being written…"));
  dialog.showModal();
  try {
    const answer = await call("GetReport", { id: plan.id });
    const text = decode(answer.report);
    dialog.replaceChildren(
      h("div", { class: "card-head" }, title, h("div", { class: "tools" },
        download("Markdown", plan.id + ".md", "text/markdown", () => text),
        download("HTML", plan.id + ".html", "text/html", async () => decode((await call("GetReport", { id: plan.id, format: "FORMAT_HTML" })).report)),
        close)),
      h("article", {}, blocks(text)));
    title.focus();
  } catch (e) {
    dialog.replaceChildren(h("div", { class: "card-head" }, title, close), h("p", { class: "error", role: "alert" }, `${e.code || "error"}: ${e.message}`));
  }
}

// download saves what get returns.
function download(label, name, type, get) {
  return h("button", {
    type: "button",
    onclick: async () => {
      const url = URL.createObjectURL(new Blob([await get()], { type }));
      h("a", { href: url, download: name }).click();
      URL.revokeObjectURL(url);
    },
  }, label);
}

// plain takes the escapes of Markdown out.
const plain = (text) => text.trim().replace(/\\([\\`*_[\]<>|!&~#+\-=])/g, "$1").replace(/(^|[^\\])`([^`]*)`/g, "$1$2");

// cells splits a line of a table at the bars that are not escaped.
const cells = (line) => line.replace(/^\|/, "").replace(/\|\s*$/, "").split(/(?<!\\)\|/).map(plain);

const kind = (line) => (/^#+ /.test(line) ? "head" : line.startsWith("|") ? "table" : line.startsWith("- ") ? "list"
  : line.startsWith("    ") ? "code" : line === "---" ? "rule" : line.trim() === "" ? "" : "text");

// blocks turns the Markdown of a report (headings, lists, tables, indented code) into elements.
export function blocks(markdown) {
  const out = [];
  const lines = markdown.split("\n");
  for (let i = 0; i < lines.length;) {
    const what = kind(lines[i]);
    let end = i + 1;
    while (what && what !== "head" && end < lines.length && kind(lines[end]) === what) end++;
    const part = lines.slice(i, end);
    if (what === "head") out.push(h(part[0].startsWith("## ") ? "h3" : "p", { class: "title" }, plain(part[0].replace(/^#+ /, ""))));
    else if (what === "list") out.push(h("ul", {}, part.map((line) => h("li", {}, plain(line.slice(2))))));
    else if (what === "code") out.push(h("pre", { tabindex: 0 }, part.map((line) => line.slice(4)).join("\n")));
    else if (what === "table") out.push(table(part));
    else if (what === "text") out.push(h("p", {}, plain(part.join(" "))));
    i = end;
  }
  return out;
}

function table(lines) {
  const head = cells(lines[0]);
  const rows = lines.slice(2).map(cells);
  const named = head.some((text) => text);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": named ? head.join(", ") : "Facts" }, h("table", {},
    named ? h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))) : null,
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((text, i) => h(!named && i === 0 ? "th" : "td", { scope: !named && i === 0 ? "row" : null }, text)))))));
}
