import { find, make } from "./dom.js";
import { clockTime, dump, octets, section, viaNames } from "./words.js";

/** showStep fills the details with one step. */
export function showStep(step, nameOf) {
  const bytes = octets(step.wire);
  const text = new TextDecoder().decode(bytes);
  const printable = bytes.length > 0 && !/[\u0000-\u0008\u000e-\u001f\ufffd]/.test(text);
  const link = section(step.rfc || "");
  const who = step.from === step.to ? `at ${nameOf(step.from)}` : `${nameOf(step.from)} → ${nameOf(step.to)}`;
  find("detail").replaceChildren(...[
    make("p", { class: "lead" }, make("b", { class: "via-" + step.via }, `${step.seq}. ${viaNames[step.via] || step.kind}`), " ", who),
    make("p", { class: "octets" }, step.label),
    step.say ? make("p", {}, step.say) : null,
    step.rfc ? make("p", {}, "It follows ", link ? make("a", { href: link, rel: "noreferrer noopener", target: "_blank" }, step.rfc) : step.rfc, ".") : null,
    make("dl", {}, ...[["time", clockTime(step.time)], ["event", step.kind], ["letter", step.message], ["session", step.session], ...(step.fields || [])]
      .filter(([, value]) => value).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)])),
    printable ? make("h3", {}, "As text") : null,
    printable ? make("pre", { class: "octets", tabindex: 0, "aria-label": "Text" }, text) : null,
    bytes.length ? make("h3", {}, `${bytes.length} octets`) : null,
    bytes.length ? make("pre", { class: "octets", tabindex: 0, "aria-label": "Octets" }, dump(bytes)) : null,
  ].filter(Boolean));
  find("details").classList.add("chosen");
}

/** showHost fills the details with what hostCard made. */
export function showCard(parts) {
  find("detail").replaceChildren(...parts);
  find("details").classList.add("chosen");
}
