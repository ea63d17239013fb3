import { ask, find, make } from "./dom.js";

// The page of caught mail: it looks for new messages every two seconds. A
// letter's HTML is shown in a frame without an origin, in which nothing runs.

let shown = null; // nothing was asked yet
let open = null;
let view = "text";

async function load() {
  const part = find("part").value.trim();
  let list;
  try {
    list = await ask("/api/messages?limit=500" + (part ? "&to=" + encodeURIComponent(part) : ""));
  } catch (e) {
    find("count").textContent = e.message;
    return;
  }
  if (JSON.stringify(list) === JSON.stringify(shown)) return;
  const focus = document.activeElement && document.activeElement.value;
  shown = list;
  find("count").textContent = list.length === 1 ? "1 message" : `${list.length} messages`;
  find("none").hidden = list.length > 0;
  find("list").replaceChildren(...list.map((m) => make("li", {}, make("button", { type: "button", value: m.id, click: () => show(m.id), "aria-current": open && open.id === m.id ? "true" : null },
    make("b", {}, m.subject || "(no subject)"), make("small", {}, `to ${m.recipients.join(", ")}`),
    make("small", {}, `from ${m.from || m.sender || "<>"}, ${new Date(m.received).toLocaleTimeString("en-GB")}, ${m.size} octets`)))));
  if (focus) find("list").querySelector(`button[value="${CSS.escape(focus)}"]`)?.focus();
}

async function show(id) {
  try {
    open = await ask("/api/messages/" + id);
  } catch (e) {
    open = null;
    find("subject").textContent = e.message;
    find("views").hidden = true;
    find("content").replaceChildren();
    return;
  }
  for (const b of find("list").querySelectorAll("button")) b.value === String(id) ? b.setAttribute("aria-current", "true") : b.removeAttribute("aria-current");
  find("subject").textContent = open.subject || "(no subject)";
  find("envelope").replaceChildren(...[["from", open.from], ["envelope from", open.sender || "<>"], ["envelope to", open.recipients.join(", ")], ["received", new Date(open.received).toLocaleString("en-GB")]]
    .flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)]));
  find("views").hidden = false;
  find("views").querySelector('[value="html"]').disabled = !open.html;
  find("raw").href = `/api/messages/${id}/raw`;
  find("parts").replaceChildren(...(open.parts.length > 1 ? open.parts : []).map((p) => make("li", {},
    make("a", { href: `/api/messages/${id}/parts/${p.number}`, download: true }, `${p.filename || "part " + p.number} (${p.type}, ${p.size} octets)`))));
  draw();
}

function draw() {
  if (!open) return;
  const as = view === "html" && open.html ? "html" : view === "header" ? "header" : open.text || !open.html ? "text" : "html";
  for (const b of find("views").querySelectorAll("button")) b.setAttribute("aria-pressed", b.value === as);
  if (as === "html") {
    const frame = make("iframe", { title: "The letter as HTML", sandbox: "", referrerpolicy: "no-referrer", src: `/api/messages/${open.id}/html` });
    find("content").replaceChildren(frame);
  } else if (as === "header") {
    find("content").replaceChildren(make("pre", { tabindex: 0 }, open.header.map(([k, v]) => `${k}: ${v.trim()}`).join("\n")));
  } else {
    find("content").replaceChildren(make("pre", { tabindex: 0 }, open.text));
  }
}

function close() {
  open = null;
  find("subject").textContent = "Choose a message";
  find("views").hidden = true;
  for (const id of ["envelope", "content", "parts"]) find(id).replaceChildren();
}

find("views").addEventListener("click", async (e) => {
  const what = e.target.value;
  if (!what || !open) return;
  if (what === "delete") {
    await ask("/api/messages/" + open.id, undefined, "DELETE").catch(() => {});
    close();
    load();
    return;
  }
  view = what;
  draw();
});
find("clear").addEventListener("click", async () => {
  await ask("/api/messages", undefined, "DELETE").catch(() => {});
  close();
  load();
});
find("search").addEventListener("submit", (e) => e.preventDefault());
find("part").addEventListener("input", load);

const dark = matchMedia("(prefers-color-scheme: dark)");
const look = () => document.documentElement.toggleAttribute("data-dark", dark.matches);
dark.addEventListener("change", look);
look();
load();
setInterval(() => { if (!document.hidden) load(); }, 2000);
document.documentElement.dataset.ready = "";
