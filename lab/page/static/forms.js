import { ask, find, make, options } from "./dom.js";

// The forms: letter, mail program, names, registrar, faults, clock.

export function tell(text, tone) {
  find("result").textContent = text;
  find("result").dataset.tone = tone || "";
}

/** act does what a form asks for, and tells how it went. */
async function act(doing, done, path, body) {
  tell(doing);
  try {
    const answer = await ask(path, body);
    tell(done);
    return answer;
  } catch (e) {
    tell(e.message, "bad");
    return null;
  }
}

const addresses = (text) => text.split(/[,;\s]+/).filter(Boolean);

function onsubmit(id, handler) {
  find(id).addEventListener("submit", (e) => {
    e.preventDefault();
    handler(e.submitter);
  });
}

export function listen(refresh) {
  onsubmit("letter", async () => {
    const got = await act("Handing the letter to the mail server …", "The mail server has the letter. Watch where it goes.", "/api/letter", letterOf());
    if (got && got.text) tell(got.text + ". Watch where it goes.");
  });
  onsubmit("break", async () => {
    await act("", "It is broken.", "/api/break", { kind: find("kind").value, host: find("at").value, peer: find("peer").value, value: find("value").value.trim() });
    refresh();
  });
  find("kind").addEventListener("change", nameValue);
  onsubmit("collect", (by) => act("The mail program asks its server …", "The mail program has looked; see the steps.", "/api/collect",
    { account: find("reader").value, protocol: by ? by.value : "pop3" }));
  onsubmit("ask", async () => {
    find("answer").textContent = "";
    const got = await act("The resolver is asked …", "", "/api/ask", { resolver: find("resolver").value, name: find("name").value, type: find("typ").value });
    if (got) find("answer").textContent = got.text || "Answered; see the steps.";
  });
  onsubmit("register", async () => {
    const steps = await act("The registrar works …", "Registered. Mail for the domain flows.", "/api/register", { domain: find("domain").value.trim() });
    find("registered").replaceChildren(...(Array.isArray(steps) ? steps : []).map((s) => make("li", {}, s)));
    refresh();
  });
  onsubmit("jump", async (by) => {
    await act("The clock jumps …", "The clock has jumped.", "/api/jump", { seconds: Number(by ? by.value : 60) });
    refresh();
  });
  find("faulty").addEventListener("change", () => showFaults(shownFaults, shownHosts));
  find("faults").addEventListener("change", async (e) => {
    const box = e.target;
    await act("", (box.checked ? "On: " : "Off: ") + box.dataset.label, "/api/fault", { id: box.value, on: box.checked });
    refresh();
  });
}

const letterOf = () => ({ from: find("from").value, to: addresses(find("to").value), cc: [], bcc: addresses(find("bcc").value), subject: find("subject").value, body: find("body").value });

let shownKinds = [];
function nameValue() {
  const k = shownKinds.find((x) => x.kind === find("kind").value);
  find("valuename").textContent = k && k.value ? `Value (${k.value})` : "Value";
  find("value").disabled = !k || !k.value;
}

let shownFaults = [], shownHosts = [];

/** fillForms brings the forms' lists up to date. */
export function fillForms(scene) {
  const people = scene.accounts || [];
  for (const id of ["from", "reader"]) options(find(id), people.map((a) => [a.address, a.address]));
  find("addresses").replaceChildren(...people.map((a) => make("option", { value: a.address })));
  if (people.length && !find("to").value) {
    find("from").value = people[0].address;
    find("to").value = people[people.length > 1 ? 1 : 0].address;
    find("reader").value = find("to").value;
  }
  options(find("resolver"), scene.hosts.filter((h) => h.role === "resolver").map((h) => [h.id, h.name]));
  shownKinds = scene.kinds || [];
  options(find("kind"), shownKinds.map((k) => [k.kind, `${k.kind}: ${k.about}`]));
  const spots = [...(scene.places || []).map((p) => [p, "all of " + p]), ...scene.hosts.map((h) => [h.id, h.name])];
  options(find("at"), spots);
  options(find("peer"), [["", "everybody"], ...spots]);
  nameValue();
  const places = [...new Set((scene.faults || []).map((f) => f.host))];
  const names = new Map(scene.hosts.map((h) => [h.id, h.name]));
  const first = !find("faulty").value;
  options(find("faulty"), [["on", "what is on"], ...places.map((p) => [p, names.get(p) || "all of " + p])]);
  if (first && people.length) find("faulty").value = people[people.length > 1 ? 1 : 0].host;
  showFaults(scene.faults || [], scene.hosts);
}

function showFaults(faults, hosts) {
  shownFaults = faults;
  shownHosts = hosts;
  const want = find("faulty").value;
  const names = new Map(hosts.map((h) => [h.id, h.name]));
  const groups = new Map();
  for (const f of faults) {
    if (want === "on" ? !f.on : f.host !== want && !f.on) continue;
    if (!groups.has(f.host)) groups.set(f.host, []);
    groups.get(f.host).push(f);
  }
  const focus = document.activeElement && document.activeElement.value;
  find("faults").replaceChildren(...[...groups].map(([host, list]) => make("fieldset", {}, make("legend", {}, names.get(host) || host),
    ...list.map((f) => make("label", {}, make("input", { type: "checkbox", role: "switch", value: f.id, checked: f.on, "data-label": `${f.label}, ${names.get(host) || host}` }), " ", f.label, make("small", {}, f.about))))),
  ...(groups.size ? [] : [make("p", {}, "Nothing is broken.")]));
  if (focus) find("faults").querySelector(`input[value="${CSS.escape(focus)}"]`)?.focus();
}
