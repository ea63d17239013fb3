import { find, make } from "./dom.js";
import { viaNames } from "./words.js";

// The sequence diagram: a lane for each host that takes part, a row for each
// step. People and mail servers are to the left, then resolvers, then name
// servers, each in the order in which they speak up.

const maxRows = 800; // in the document; older ones are behind the slider

const laneRank = { person: 1, mail: 2, resolver: 3, root: 4, tld: 5, names: 6, web: 6 };

export class Diagram {
  constructor(onpick) {
    this.steps = find("steps");
    this.lanes = find("lanes");
    this.scroll = find("scroll");
    this.onpick = onpick;
    this.lane = new Map(); // host id to its place
    this.nameOf = (id) => id;
    this.roleOf = () => "";
    this.picked = null;
    this.steps.addEventListener("keydown", (e) => this.key(e));
    this.steps.addEventListener("click", (e) => {
      const b = e.target.closest("button");
      if (b) this.pick(b, true);
    });
  }

  /** place makes sure that a host has a lane, and moves others aside for it. */
  place(id) {
    if (this.lane.has(id)) return;
    const ids = [...this.lane.keys()];
    const rank = (x) => laneRank[this.roleOf(x)] ?? 5;
    const before = ids.findIndex((x) => rank(x) > rank(id));
    ids.splice(before < 0 ? ids.length : before, 0, id);
    this.lane = new Map(ids.map((x, i) => [x, i]));
    this.lanes.replaceChildren(...ids.map((x) => {
      const [first, ...rest] = this.nameOf(x).split(".");
      return make("span", { "data-host": x, title: this.nameOf(x) }, first, rest.length ? make("small", {}, rest.join(".")) : null);
    }));
    this.scroll.style.setProperty("--lanes", ids.length);
    for (const row of this.steps.children) this.lay(row.firstChild);
  }

  /** lay puts a row's arrow and label where its hosts' lanes are. */
  lay(button) {
    const one = this.lane.get(button.step.from), two = this.lane.get(button.step.to);
    const a = Math.min(one, two), b = Math.max(one, two), space = button.lastChild;
    const close = a + b > this.lane.size - 1;
    space.style.setProperty("--a", a);
    space.style.setProperty("--b", b);
    space.className = `space ${one === two ? "note" : one < two ? "right" : "left"} ${close ? "close" : "begin"}`;
  }

  add(step, fresh) {
    this.place(step.from);
    this.place(step.to);
    const one = this.nameOf(step.from), two = this.nameOf(step.to), here = step.from === step.to;
    const said = here ? `at ${one}` : `${one} to ${two}`;
    const label = make("span", { class: "label" }, step.label || viaNames[step.via] || step.kind);
    const button = make("button", { type: "button", tabindex: -1, "data-seq": step.seq,
      class: `via-${step.via} ${step.tone || ""} ${step.letter ? "letter" : ""} ${fresh ? "new" : ""}`,
      "aria-label": `${step.seq}. ${said}: ${viaNames[step.via] || ""} ${step.label}` },
    make("span", { class: "num" }, step.seq), make("span", {}, here ? null : make("span", { class: "arrow" }), label));
    button.step = step;
    this.lay(button);
    const low = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 120;
    this.steps.append(make("li", {}, button));
    while (this.steps.children.length > maxRows) this.steps.firstChild.remove();
    if (!this.steps.querySelector('[tabindex="0"]')) this.steps.firstChild.firstChild.tabIndex = 0;
    if (fresh && low) this.scroll.scrollTop = this.scroll.scrollHeight;
    return button;
  }

  reset(steps) {
    const kept = this.picked && this.picked.seq;
    this.steps.replaceChildren();
    this.lanes.replaceChildren();
    this.lane.clear();
    this.picked = null;
    for (const s of steps.slice(0, -maxRows)) { this.place(s.from); this.place(s.to); }
    for (const s of steps.slice(-maxRows)) this.add(s, false);
    this.scroll.scrollTop = this.scroll.scrollHeight;
    const again = kept && this.steps.querySelector(`[data-seq="${kept}"]`);
    if (again) this.mark(again);
  }

  mark(button) {
    for (const b of this.steps.querySelectorAll('[aria-current], [tabindex="0"]')) { b.removeAttribute("aria-current"); b.tabIndex = -1; }
    button.setAttribute("aria-current", "step");
    button.tabIndex = 0;
    this.picked = button.step;
  }

  pick(button, byHand) {
    this.mark(button);
    this.onpick(button.step, byHand);
  }

  key(e) {
    const here = e.target.closest("li");
    if (!here) return;
    const to = { ArrowDown: here.nextSibling, ArrowUp: here.previousSibling, Home: this.steps.firstChild, End: this.steps.lastChild }[e.key];
    if (!to) {
      if (e.key === "ArrowDown" || e.key === "ArrowUp") e.preventDefault();
      return;
    }
    e.preventDefault();
    e.stopPropagation();
    to.firstChild.focus();
    this.pick(to.firstChild, true);
  }

  focus() {
    const b = this.steps.querySelector('[tabindex="0"]');
    (b || this.steps).focus();
  }
}
