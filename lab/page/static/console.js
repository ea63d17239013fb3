import { ask, find, make, options } from "./dom.js";

/** Console is a connection to a port of a host, line by line. */
export class Console {
  constructor() {
    this.id = "";
    this.hosts = [];
    this.hints = [];
    this.next = [];
    this.said = Promise.resolve(); // when all lines are sent
    find("dial").addEventListener("submit", (e) => { e.preventDefault(); this.connect(find("host").value, Number(find("port").value)); });
    find("hangup").addEventListener("click", () => this.hangUp());
    find("type").addEventListener("submit", (e) => { e.preventDefault(); this.say(find("line").value); find("line").value = ""; });
    find("host").addEventListener("change", () => this.ports());
    find("hint").addEventListener("change", () => this.choose());
    find("hintnext").addEventListener("click", () => this.typeNext());
  }

  show(hosts, hints) {
    this.hosts = hosts.filter((h) => (h.ports || []).length);
    options(find("host"), this.hosts.map((h) => [h.id, h.name]));
    this.hints = hints || [];
    options(find("hint"), [["", "none"], ...this.hints.map((h, i) => [String(i), h.title])]);
    if (!find("port").value) this.ports();
  }

  ports() {
    const h = this.hosts.find((x) => x.id === find("host").value);
    const list = (h && h.ports) || [];
    find("ports").replaceChildren(...list.map((p) => make("option", { value: p.number }, p.service)));
    if (list.length) find("port").value = list[0].number;
  }

  choose() {
    const h = this.hints[Number(find("hint").value)];
    this.next = find("hint").value === "" || !h ? [] : [...h.lines];
    if (this.next.length) {
      find("host").value = h.host;
      this.ports();
      find("port").value = h.port;
    }
    this.buttons();
  }

  typeNext() {
    if (this.next.length) this.say(this.next.shift());
    this.buttons();
  }

  buttons() {
    const on = !!this.id;
    for (const name of ["line", "say", "hangup"]) find(name).disabled = !on;
    find("connect").disabled = on;
    find("hintnext").disabled = !on || !this.next.length;
  }

  async connect(host, port) {
    if (this.id) await this.hangUp();
    find("lines").replaceChildren();
    try {
      this.id = (await ask("/api/console", { host, port })).id;
    } catch (e) {
      this.line({ from: "page", text: e.message });
      return;
    }
    this.buttons();
    this.source = new EventSource("/api/console/" + this.id);
    this.source.addEventListener("line", (e) => this.line(JSON.parse(e.data)));
    this.source.addEventListener("end", () => this.ended());
    this.source.addEventListener("error", () => { if (this.source && this.source.readyState === 2) this.ended(); });
    find("line").focus();
  }

  ended() {
    this.source?.close();
    const id = this.id;
    this.id = "";
    this.buttons();
    if (id) ask("/api/console/" + id, undefined, "DELETE").catch(() => {});
  }

  /** say sends a line after those before it: requests overtake each other. */
  say(text) {
    const id = this.id;
    this.said = this.said.then(() => this.send(id, text));
  }

  async send(id, text) {
    if (!id || id !== this.id) return;
    try {
      await ask("/api/console/" + id, { text });
    } catch (e) {
      this.line({ from: "page", text: e.message });
    }
  }

  async hangUp() {
    const id = this.id;
    this.source?.close();
    this.id = "";
    this.buttons();
    this.line({ from: "page", text: "You closed the connection." });
    if (id) await ask("/api/console/" + id, undefined, "DELETE").catch(() => {});
  }

  line(l) {
    const who = { you: "C: ", server: "S: " }[l.from] || "";
    const list = find("lines");
    list.append(make("li", { class: "from-" + l.from }, make("code", {}, who + l.text),
      l.say ? make("small", {}, l.say + (l.rfc ? " " + l.rfc : "")) : null));
    list.scrollTop = list.scrollHeight;
  }
}
