import { ask, find, make } from "./dom.js";

/** Tables shows caches, queues and mailboxes, while anyone looks. */
export class Tables {
  constructor(visible) {
    this.visible = visible;
    this.due = 0;
    find("tablekind").addEventListener("change", () => this.load());
  }

  /** soon loads again in a moment, however often it is called. */
  soon() {
    if (this.due || !this.visible()) return;
    this.due = setTimeout(() => { this.due = 0; this.load(); }, 700);
  }

  async load() {
    if (!this.visible()) return;
    let list;
    try {
      list = await ask("/api/tables");
    } catch (e) {
      find("tables").replaceChildren(make("p", {}, e.message));
      return;
    }
    const kind = find("tablekind").value;
    const shown = (list || []).filter((t) => !kind || t.kind === kind);
    find("tables").replaceChildren(...shown.map(oneTable), ...(shown.length ? [] : [make("p", {}, "There is none.")]));
  }
}

function oneTable(t) {
  const rows = t.rows || [];
  return make("table", {},
    make("caption", {}, t.title + (rows.length ? "" : ": empty")),
    rows.length ? make("thead", {}, make("tr", {}, ...t.columns.map((c) => make("th", { scope: "col" }, c)))) : null,
    make("tbody", {}, ...rows.map((r) => make("tr", {}, ...r.map((c) => make("td", {}, c))))));
}
