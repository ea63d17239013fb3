import { find, make } from "./dom.js";
import { viaNames } from "./words.js";

// The sequence diagram: a lane for each host that takes part, a row for each
// step. Lanes come in the order in which hosts speak up.

const maxRows = 800; // in the document; older ones are behind the slider

export class Diagram {
  constructor(onpick) {
    this.steps = find("steps");
    this.lanes = find("lanes");
    this.scroll = find("scroll");
    this.onpick = onpick;
    this.lane = new Map(); // host id to its place
    this.nameOf = (id) => id;
    this.picked = null;
    this.steps.addEventListener("keydown", (e) => this.key(e));
    this.steps.addEventListener("click", (e) => {
      const b = e.target.closest("button");
      if (b) this.pick(b, true);
    });
  }

  place(id) {
    if (!this.lane.has(id)) {
      this.lane.set(id, this.lane.size);
      this.lanes.append(make("span", { "data-host": id }, this.nameOf(id)));
      this.scroll.style.setProperty("--lanes", this.lane.size);
      this.edges();
    }
    return this.lane.get(id);
  }

  /** edges puts labels of the outer lanes to where they have room. */
  edges() {
    const last = this.lane.size - 1;
    for (const label of this.steps.querySelectorAll(".label")) sideOf(label, last);
  }

  add(step, fresh) {
    const a = this.place(step.from), b = this.place(step.to);
    const one = this.nameOf(step.from), two = this.nameOf(step.to);
    const said = a === b ? `at ${one}` : `${one} to ${two}`;
    const label = make("span", { class: "label", "data-a": Math.min(a, b), "data-b": Math.max(a, b) }, step.label || viaNames[step.via] || step.kind);
    const kind = a === b ? "note" : "arrowed " + (a < b ? "right" : "left");
    const space = make("span", { class: `space ${kind}` }, a === b ? null : make("span", { class: "arrow" }), label);
    space.style.setProperty("--a", Math.min(a, b));
    space.style.setProperty("--b", Math.max(a, b));
    const button = make("button", { type: "button", tabindex: -1, "data-seq": step.seq,
      class: `via-${step.via} ${step.tone || ""} ${step.letter ? "letter" : ""} ${fresh ? "new" : ""}`,
      "aria-label": `${step.seq}. ${said}: ${viaNames[step.via] || ""} ${step.label}` },
    make("span", { class: "num" }, step.seq), space);
    button.step = step;
    sideOf(label, this.lane.size - 1);
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

function sideOf(label, last) {
  const a = Number(label.dataset.a), b = Number(label.dataset.b);
  label.classList.toggle("first", a === b && a === 0);
  label.classList.toggle("last", a === b && a === last && a > 0);
  const close = a !== b && a + b > last;
  label.classList.toggle("close", close);
  label.classList.toggle("begin", a !== b && !close);
}
