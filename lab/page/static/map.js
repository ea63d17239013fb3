import { draw, make, still } from "./dom.js";
import { roleNames, signs } from "./words.js";

// The map: a box for each organisation, with its hosts inside, and what moves
// between them.

export class HostMap {
  constructor(place, onpick) {
    this.place = place;
    this.onpick = onpick;
    this.hosts = [];
    this.spots = new Map(); // id to {x, y, node}
    this.svg = draw("svg", { role: "group", "aria-label": "Map of the hosts" });
    place.append(this.svg);
    this.width = 0;
    new ResizeObserver(() => {
      if (Math.abs(place.clientWidth - this.width) > 4) this.layout();
    }).observe(place);
  }

  show(hosts) {
    this.hosts = hosts;
    this.layout();
  }

  layout() {
    const em = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = (this.width = Math.max(this.place.clientWidth, 200));
    const focus = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.host;
    this.spots.clear();
    this.svg.replaceChildren();
    const sites = new Map();
    for (const h of this.hosts) {
      if (!sites.has(h.site)) sites.set(h.site, []);
      sites.get(h.site).push(h);
    }
    let x = 0, y = 0, high = 0;
    for (const [name, hosts] of sites) {
      const many = hosts.every((h) => h.role === "root" || h.role === "tld");
      const cell = (hosts[0].role === "root" ? 2.05 : many ? 2.9 : 3.1) * em, tall = 2.7 * em;
      const across = Math.max(1, Math.min(hosts.length, many ? 14 : 3, Math.floor((width - em) / cell)));
      const w = Math.max(across * cell + em * 0.6, Math.min(width, name.length * 0.52 * em + em));
      const h = Math.ceil(hosts.length / across) * tall + 1.4 * em;
      if (x > 0 && x + w > width) {
        x = 0;
        y += high + em * 0.5;
        high = 0;
      }
      this.site(name, hosts, { x, y, w, h, across, cell, tall, em, many });
      x += w + em * 0.5;
      high = Math.max(high, h);
    }
    this.svg.setAttribute("viewBox", `0 0 ${width} ${y + high}`);
    this.svg.setAttribute("height", y + high);
    this.way = draw("line", { class: "way", visibility: "hidden" });
    this.mover = draw("g", { class: "mover", visibility: "hidden" });
    this.svg.append(this.way, this.mover);
    if (focus && this.spots.has(focus)) this.spots.get(focus).node.focus();
  }

  site(name, hosts, b) {
    this.svg.append(draw("rect", { class: "site", x: b.x, y: b.y, width: b.w, height: b.h, rx: b.em * 0.4 }),
      draw("text", { class: "sitename", x: b.x + b.em * 0.4, y: b.y + b.em * 1.05 }, name));
    hosts.forEach((h, i) => {
      const x = b.x + b.em * 0.3 + ((i % b.across) + 0.5) * b.cell;
      const y = b.y + b.em * 1.3 + Math.floor(i / b.across) * b.tall + b.em * 1.05;
      const g = draw("g", { class: "host" + (h.broken ? " broken" : ""), role: "button", tabindex: this.spots.size ? -1 : 0, "data-host": h.id,
        "aria-label": `${h.name}, ${roleNames[h.role] || h.role}, ${h.addr}${h.broken ? ", broken: " + h.broken : ""}` });
      const short = h.short || h.name.split(".")[0];
      g.append(draw("title", {}, `${h.name} ${h.addr}${h.broken ? "; " + h.broken : ""}`),
        draw("circle", { cx: x, cy: y, r: b.em * 0.72 }),
        draw("text", { class: "sign", x, y }, signs[h.role] || signs.other),
        draw("text", { x, y: y + b.em * 1.5 }, short));
      if (h.broken) g.append(draw("text", { class: "mark", x: x + b.em * 0.95, y: y - b.em * 0.5 }, "⚠"));
      g.addEventListener("click", () => this.onpick(h));
      g.addEventListener("keydown", (e) => this.key(e, h));
      this.spots.set(h.id, { x, y, node: g });
      this.svg.append(g);
    });
  }

  key(e, host) {
    const ids = [...this.spots.keys()], at = ids.indexOf(host.id);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: ids.length - 1 }[e.key];
    if (e.key === "Enter" || e.key === " ") this.onpick(host);
    else if (to === undefined) return;
    else this.focus(ids[(to + ids.length) % ids.length]);
    e.preventDefault();
    e.stopPropagation();
  }

  focus(id) {
    for (const [key, s] of this.spots) s.node.setAttribute("tabindex", key === id ? 0 : -1);
    this.spots.get(id)?.node.focus();
  }

  /** light marks the two hosts of a step. */
  light(step) {
    for (const [id, s] of this.spots) s.node.classList.toggle("on", !!step && (id === step.from || id === step.to));
    this.way?.setAttribute("visibility", "hidden");
    this.mover?.setAttribute("visibility", "hidden");
    cancelAnimationFrame(this.frame);
  }

  /** move shows a step: an envelope or a dot goes from host to host. */
  move(step, ms) {
    this.light(step);
    const a = this.spots.get(step.from), b = this.spots.get(step.to);
    if (!a || !b || a === b) return;
    for (const [key, value] of Object.entries({ x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: "way via-" + step.via, visibility: "visible" })) this.way.setAttribute(key, value);
    if (still() || ms < 100) return;
    this.mover.replaceChildren(...(step.letter
      ? [draw("rect", { x: -15, y: -10, width: 30, height: 20, rx: 3 }), draw("path", { d: "M-14 -9 L0 3 L14 -9" })]
      : [draw("circle", { r: 6 })]));
    this.mover.setAttribute("class", "mover via-" + step.via);
    this.mover.setAttribute("visibility", "visible");
    const begin = performance.now();
    const tick = (t) => {
      const p = Math.max(0, Math.min(1, (t - begin) / ms));
      const q = p < 0.5 ? 2 * p * p : 1 - 2 * (1 - p) * (1 - p);
      this.mover.setAttribute("transform", `translate(${a.x + (b.x - a.x) * q} ${a.y + (b.y - a.y) * q})`);
      if (p < 1) this.frame = requestAnimationFrame(tick);
    };
    tick(begin);
  }
}

/** hostCard tells of one host, for the details. */
export function hostCard(host, onport) {
  return [
    make("p", { class: "lead" }, make("b", {}, host.name), " ", roleNames[host.role] || ""),
    host.about ? make("p", {}, host.about) : null,
    make("dl", {}, make("dt", {}, "address"), make("dd", {}, host.addr || "none"), make("dt", {}, "organisation"), make("dd", {}, host.site)),
    host.broken ? make("p", {}, "Broken: " + host.broken) : null,
    make("p", {}, ...(host.ports || []).map((p) => make("button", { type: "button", click: () => onport(host, p) }, `Console: ${p.service}, port ${p.number}`))),
  ].filter(Boolean);
}
