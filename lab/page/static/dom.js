// Elements are made here, and text only ever becomes text nodes: what a letter
// or a peer says can not become markup.

/** find returns the element with an id. */
export const find = (id) => document.getElementById(id);

/** make builds an element: props are attributes, "on" handlers, or "class". */
export function make(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (typeof value === "function") e.addEventListener(key, value);
    else if (value === true) e.setAttribute(key, "");
    else if (value !== false && value != null) e.setAttribute(key, String(value));
  }
  e.append(...children.filter((c) => c != null).map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

/** draw builds an SVG element. */
export function draw(tag, props, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props || {})) e.setAttribute(key, String(value));
  e.append(...children.map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

/** options fills a select, and keeps what was chosen where it is still there. */
export function options(select, list) {
  const kept = select.value;
  select.replaceChildren(...list.map(([value, text]) => make("option", { value }, text)));
  if (list.some(([value]) => value === kept)) select.value = kept;
}

/** ask fetches JSON; a refusal is an Error with the server's sentence. */
export async function ask(path, body, method) {
  const request = body === undefined ? { method: method || "GET" }
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Error("The lab does not answer. Is it still running?");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

/** still tells whether the person wants no motion. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
