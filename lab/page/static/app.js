import { ask, find, options } from "./dom.js";
import { dateTime } from "./words.js";
import { Player } from "./player.js";
import { HostMap, hostCard } from "./map.js";
import { Diagram } from "./diagram.js";
import { showCard, showStep } from "./details.js";
import { Tables } from "./tables.js";
import { Console } from "./console.js";
import { fillForms, listen } from "./forms.js";

// The page as a whole. In an exported file the steps are in the document, and
// there is nothing to ask or to do.

const file = find("run") ? JSON.parse(find("run").textContent) : null;
const player = new Player();
let scene = { hosts: [], accounts: [], faults: [] };
let clockAhead = 0; // of the lab's clock against this one, ms

const nameOf = (id) => (id === "you" ? "you" : (scene.hosts.find((h) => h.id === id) || { name: id }).name);
const map = new HostMap(find("map"), pickHost);
const diagram = new Diagram((step, byHand) => {
  if (byHand) player.play(false);
  map.light(step);
  showStep(step, nameOf);
});
diagram.nameOf = nameOf;
diagram.roleOf = (id) => (id === "you" ? "person" : (scene.hosts.find((h) => h.id === id) || { role: "" }).role);
const tables = new Tables(() => !file && !find("pane-tables").hidden);
const terminal = file ? null : new Console();

function pickHost(host) {
  showCard(hostCard(host, (h, port) => {
    tab("console");
    find("host").value = h.id;
    find("port").value = port.number;
    terminal?.connect(h.id, port.number);
  }));
  const faulty = find("faulty");
  if ([...faulty.options].some((o) => o.value === host.id)) {
    faulty.value = host.id;
    faulty.dispatchEvent(new Event("change"));
  }
}

function showScene(s) {
  scene = s;
  const broken = new Map();
  for (const f of s.faults || []) if (f.on) broken.set(f.host, [...(broken.get(f.host) || []), f.label]);
  for (const h of s.hosts) h.broken = (broken.get(h.id) || []).join(", ");
  find("title").textContent = s.title || "lab";
  clockAhead = new Date(s.now) - Date.now();
  map.show(s.hosts);
  if (!file) {
    fillForms(s);
    terminal.show(s.hosts, s.types);
  }
  tick();
}

function tick() {
  const now = file ? new Date(file.when) : new Date(Date.now() + clockAhead);
  find("clock").textContent = dateTime(now);
  find("clock").dateTime = isNaN(now) ? "" : now.toISOString();
}

// The player and the diagram.

player.onstep = (step) => {
  diagram.add(step, true);
  map.move(step, Math.min(player.pace * 0.9, 1000));
  news.add(step);
  tables.soon();
};
player.onseek = (steps) => {
  diagram.reset(steps);
  map.light(steps[steps.length - 1]);
};
player.onstate = () => {
  find("play").textContent = player.playing ? "❚❚ Pause" : "► Go on";
  find("seek").max = player.view.length;
  find("seek").value = player.shown;
  find("place").textContent = `${player.shown} of ${player.view.length}`;
  find("empty").hidden = player.view.length > 0;
  find("scroll").hidden = player.view.length === 0;
};

// News are told in one sentence every few seconds, and none while nothing is
// new: a screen reader should not shout.
const news = {
  count: 0, last: null, timer: 0,
  add(step) {
    this.count++;
    this.last = step;
    this.timer ||= setTimeout(() => {
      find("live").textContent = this.count === 1 ? this.sentence() : `${this.count} steps; the last: ${this.sentence()}`;
      this.count = this.timer = 0;
    }, 4000);
  },
  sentence() {
    const s = this.last;
    return s.from === s.to ? `${nameOf(s.from)}: ${s.label}` : `${nameOf(s.from)} to ${nameOf(s.to)}: ${s.label}`;
  },
};

// A letter is what a server took. It has another id at each that does, and its report
// has one, too: the steps tell which are one, and it goes by the first.
const letters = new Map(); // first id to what the choice says
const firsts = new Map(); // other id to the first
const first = (id) => firsts.get(id) || id;
function noteLetter(step) {
  const ids = [step.message, ...(step.same || [])].filter(Boolean).map(first);
  if (!ids.length) return;
  const known = [...letters.keys()].find((id) => ids.includes(id)) || ids[0];
  const others = ids.filter((id) => id !== known);
  const values = (key) => (step.fields || []).filter(([k]) => k === key).map(([, v]) => v).join(", ");
  const taken = step.kind === "message.accepted" || (step.kind === "mailbox.delivered" && values("from"));
  if (taken && !letters.has(known)) letters.set(known, [values("from") || "<>", values("to")].join(" → "));
  else if (!others.length) return;
  for (const id of others) letters.delete(id);
  for (const [id, to] of firsts) if (others.includes(to)) firsts.set(id, known);
  for (const id of others) firsts.set(id, known);
  const chosen = first(find("which").value);
  options(find("which"), [["", "all"], ...[...letters].map(([id, text], i) => [id, `${i + 1}: ${text}`])]);
  find("which").value = chosen;
  if (others.length && chosen === known) refilter();
}

function refilter() {
  const on = new Set([...find("filters").querySelectorAll("input[type=checkbox]:checked")].map((c) => c.value));
  const which = find("which").value;
  const group = (via) => ({ dns: "dns", smtp: "smtp", tls: "smtp", pop3: "reading", imap: "reading" }[via] || "inside");
  player.refilter((s) => on.has(group(s.via)) && (!which || [s.message, ...(s.for || [])].some((id) => id && first(id) === which)));
}

find("filters").addEventListener("change", (e) => { if (e.target.id !== "seek") refilter(); });
find("seek").addEventListener("input", (e) => { const to = Number(e.target.value); player.play(false); player.seek(to); });
find("play").addEventListener("click", () => player.play(!player.playing));
find("next").addEventListener("click", forward);
find("back").addEventListener("click", back);
find("replay").addEventListener("click", replay);
find("now").addEventListener("click", latest);
find("fresh").addEventListener("click", () => { player.fresh(); find("export").href = "/api/export?after=" + player.since; });
find("pace").addEventListener("change", (e) => { player.pace = Number(e.target.value); player.play(player.playing); });

function forward() {
  player.step();
  const last = find("steps").lastChild;
  if (last) diagram.pick(last.firstChild, false);
}
function back() {
  player.play(false);
  player.seek(player.shown - 1);
  const last = find("steps").lastChild;
  if (last) diagram.pick(last.firstChild, false);
}
function replay() {
  player.seek(0);
  player.play(true);
}
function latest() {
  player.seek(player.view.length);
  player.play(true);
}

// Tabs (ARIA Authoring Practices: arrow keys move, the one in view is in the order).

function tab(name, focus) {
  for (const t of find("tabs").children) {
    const on = t.id === "tab-" + name;
    t.setAttribute("aria-selected", on);
    t.tabIndex = on ? 0 : -1;
    find(t.getAttribute("aria-controls")).hidden = !on;
    if (on && focus) t.focus();
  }
  if (name === "tables") tables.load();
}
find("tabs").addEventListener("click", (e) => { if (e.target.id) tab(e.target.id.slice(4)); });
find("tabs").addEventListener("keydown", (e) => {
  const list = [...find("tabs").children], at = list.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: list.length - 1 }[e.key];
  if (to === undefined) return;
  e.preventDefault();
  e.stopPropagation();
  tab(list[(to + list.length) % list.length].id.slice(4), true);
});

// The look, kept for the next visit where the browser allows it.

function remember(key, value) {
  try { localStorage.setItem("lab-" + key, value); } catch { /* a file, or storage is off */ }
}
function recall(key) {
  try { return localStorage.getItem("lab-" + key); } catch { return null; }
}
const dark = matchMedia("(prefers-color-scheme: dark)");
function look() {
  const root = document.documentElement, theme = find("theme").value;
  root.dataset.theme = theme;
  root.toggleAttribute("data-dark", theme === "dark" || (theme === "" && dark.matches));
  root.dataset.size = find("size").value;
  map.layout();
}
for (const id of ["theme", "size"]) {
  const value = recall(id);
  if (value !== null && [...find(id).options].some((o) => o.value === value)) find(id).value = value;
  find(id).addEventListener("change", () => { remember(id, find(id).value); look(); });
}
dark.addEventListener("change", look);

function resize(by) {
  const s = find("size");
  s.selectedIndex = Math.max(0, Math.min(s.options.length - 1, s.selectedIndex + by));
  s.dispatchEvent(new Event("change"));
}
function slower() {
  const p = find("pace");
  p.selectedIndex = (p.selectedIndex + 1) % p.options.length;
  p.dispatchEvent(new Event("change"));
}

// Keys.

const commands = {
  " ": () => player.play(!player.playing), ArrowRight: forward, ArrowLeft: back, r: replay, n: latest, s: slower,
  d: () => diagram.focus(), m: () => map.focus([...map.spots.keys()][0]),
  "+": () => resize(1), "-": () => resize(-1), "?": () => find("keys").showModal(),
  l: () => live("letter", "to"), c: () => live("console", "host"), a: () => live("names", "name"), f: () => live("faults", "faulty"), t: () => live("tables", "tablekind"),
};
function live(name, id) {
  if (file) return;
  tab(name);
  find(id).focus();
}
document.addEventListener("keydown", (e) => {
  if (!find("shortcuts").checked || e.ctrlKey || e.altKey || e.metaKey || find("keys").open) return;
  const t = e.target;
  if (t.closest("input:not([type=checkbox]), select, textarea") || (e.key === " " && t.closest("button, a, input, summary"))) return;
  const command = commands[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (!command) return;
  e.preventDefault();
  command();
});
find("help").addEventListener("click", () => find("keys").showModal());

// Where the steps come from.

function take(step) {
  player.add(step);
  noteLetter(step);
}

async function refresh() {
  try {
    showScene(await ask("/api/scene"));
  } catch (e) {
    find("link").textContent = e.message;
  }
}

let runName = "", lastSeq = 0, source = null;
function connect() {
  source = new EventSource("/api/events" + (lastSeq ? "?after=" + lastSeq : ""));
  source.addEventListener("hello", (e) => {
    const { run } = JSON.parse(e.data);
    find("link").textContent = "";
    find("link").dataset.state = "";
    if (runName && run !== runName) { // another lab: begin anew
      player.clear();
      letters.clear();
      firsts.clear();
      lastSeq = 0;
      runName = run;
      source.close();
      refresh();
      connect();
    }
    runName = run;
  });
  source.addEventListener("step", (e) => {
    const step = JSON.parse(e.data);
    if (step.seq <= lastSeq) return;
    lastSeq = step.seq;
    take(step);
  });
  source.addEventListener("gone", () => { find("link").textContent = "Some steps are no longer kept."; });
  source.addEventListener("scene", refresh);
  source.addEventListener("error", () => {
    find("link").textContent = "The lab does not answer.";
    find("link").dataset.state = "away";
    if (source.readyState === 2) setTimeout(connect, 2000);
  });
}

look();
player.onstate();
setInterval(tick, 1000);
if (file) {
  document.documentElement.dataset.file = "";
  for (const e of document.querySelectorAll("[data-live]")) e.hidden = true;
  showScene(file.scene);
  for (const s of file.steps || []) take(s);
  player.play(false);
  player.seek(player.view.length);
} else {
  listen(refresh);
  refresh().then(connect);
}
document.documentElement.dataset.ready = "";
