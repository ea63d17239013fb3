// What programs built on ImapFlow do with a mailbox, and what they see of another
// client. Arguments: the folder with node_modules, the port of IMAP with TLS, the
// port without, the file of the CA, user, password. It ends with "done".
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, tlsPort, plainPort, ca, user, pass] = process.argv.slice(2);
const { ImapFlow } = createRequire(modules + "/")("imapflow");
const patience = 30_000;

const open = async options => {
  const client = new ImapFlow({
    host: "localhost", auth: { user, pass }, tls: { ca: readFileSync(ca) }, logger: false, autoIdleDelay: 600_000, ...options,
  });
  client.on("error", err => { console.error(err); process.exit(1); });
  await client.connect();
  return client;
};

// events collects what a client tells of by itself; next waits for one.
const events = client => {
  const seen = [];
  let wake = () => {};
  for (const name of ["exists", "expunge", "flags"]) {
    client.on(name, e => { seen.push({ name, ...e }); wake(); });
  }
  return async (name, want = () => true) => {
    const end = Date.now() + patience;
    for (;;) {
      const i = seen.findIndex(e => e.name == name && want(e));
      if (i >= 0) return seen.splice(i, 1)[0];
      await new Promise((resolve, reject) => {
        const timer = setTimeout(reject, end - Date.now(), new Error(`no ${name} in ${JSON.stringify(seen, (k, v) => typeof v == "bigint" ? `${v}` : v instanceof Set ? [...v] : v)}`));
        wake = () => { clearTimeout(timer); resolve(); };
      });
    }
  };
};

const attachment = Buffer.from(Array.from({ length: 3000 }, (_, i) => i * 7 & 255));
const letter = (subject, body, ...more) => [
  "From: Alice <alice@crepes.fr>", "To: Bob <bob@hamburger.edu>", `Subject: ${subject}`,
  "Date: Mon, 02 Nov 2026 10:00:00 +0000", `Message-ID: <${subject.replace(/[^a-z0-9]/gi, "")}@crepes.fr>`, ...more, "", body, "",
].join("\r\n");
const withParts = [
  "From: =?utf-8?q?J=C3=BCrgen?= <alice@crepes.fr>", "To: Bob <bob@hamburger.edu>", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
  "Date: Tue, 03 Nov 2026 10:00:00 +0000", "Message-ID: <parts@crepes.fr>", "MIME-Version: 1.0",
  'Content-Type: multipart/mixed; boundary="b"', "", "--b", "Content-Type: text/plain; charset=iso-8859-1",
  "Content-Transfer-Encoding: quoted-printable", "", "sch=F6n", "--b", 'Content-Type: application/octet-stream; name="a.bin"',
  "Content-Transfer-Encoding: base64", 'Content-Disposition: attachment; filename="a.bin"', "",
  ...attachment.toString("base64").match(/.{1,76}/g), "--b--", "",
].join("\r\n");

const folders = async client => {
  const made = await client.mailboxCreate(["Projects", "Ärger & Co"]);
  assert.equal(made.created, true);
  assert.ok(made.mailboxId);
  assert.equal((await client.mailboxCreate("Projects/Ärger & Co")).created, false);
  await client.mailboxSubscribe("Projects/Ärger & Co");
  await client.mailboxRename("Projects/Ärger & Co", "Projects/Spaß");
  const list = await client.list({ statusQuery: { messages: true, unseen: true, uidNext: true, uidValidity: true, highestModseq: true } });
  const byPath = Object.fromEntries(list.map(f => [f.path, f]));
  assert.equal(byPath["Projects/Spaß"].status.messages, 0);
  assert.ok(byPath["Projects/Spaß"].status.highestModseq > 0n);
  assert.equal(byPath["Projects/Ärger & Co"]?.listed ?? false, false);
  for (const [path, use] of [["Sent", "\\Sent"], ["Drafts", "\\Drafts"], ["Junk", "\\Junk"], ["Trash", "\\Trash"], ["Archive", "\\Archive"], ["INBOX", "\\Inbox"]]) {
    assert.equal(byPath[path].specialUse, use);
  }
  assert.equal((await client.mailboxOpen("Projects/Spaß")).mailboxId, made.mailboxId);
  await client.mailboxClose();
  await client.mailboxDelete("Projects/Spaß");
  await client.mailboxCreate("Work");
  await assert.rejects(client.mailboxOpen("Projects/Spaß"), e => e.mailboxMissing && e.serverResponseCode == "NONEXISTENT");
};

const messages = async client => {
  const dinner = await client.append("INBOX", letter("dinner", "Do you like ketchup?"), ["\\Flagged", "urgent"], new Date("2026-11-02T10:00:00Z"));
  assert.equal(dinner.uid, 1);
  assert.equal((await client.append("INBOX", withParts, [])).uid, 2);
  for (const name of ["three", "four"]) await client.append("INBOX", letter(name, `number ${name}`));
  await client.append("INBOX", letter("Re: dinner", "number five", "In-Reply-To: <dinner@crepes.fr>"));
  const box = await client.mailboxOpen("INBOX");
  assert.equal(box.exists, 5);
  assert.equal(box.uidNext, 6);
  assert.equal(box.uidValidity, dinner.uidValidity);
  assert.ok(box.permanentFlags.has("\\*"));

  const all = await client.fetchAll("1:*", {
    uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, threadId: true,
    headers: ["subject", "x-none"], source: true,
  });
  assert.deepEqual(all.map(m => m.uid), [1, 2, 3, 4, 5]);
  const [one, two] = all;
  assert.deepEqual([...one.flags].sort(), ["\\Flagged", "urgent"]);
  assert.equal(one.internalDate.toISOString(), "2026-11-02T10:00:00.000Z");
  assert.equal(one.source.toString(), letter("dinner", "Do you like ketchup?"));
  assert.equal(one.size, one.source.length);
  assert.ok(one.emailId && one.threadId && one.modseq);
  assert.equal(one.headers.toString(), "Subject: dinner\r\n\r\n");
  assert.equal(all[4].threadId, one.threadId);
  assert.notEqual(two.threadId, one.threadId);
  assert.equal(two.envelope.subject, "Grüße");
  assert.equal(two.envelope.from[0].name, "Jürgen");
  assert.equal(all[4].envelope.inReplyTo, "<dinner@crepes.fr>");
  assert.equal(two.bodyStructure.childNodes[1].dispositionParameters.filename, "a.bin");
  const some = await client.fetchOne("2", { source: { start: 0, maxLength: 5 } });
  assert.equal(some.source.toString(), "From:");
  return all;
};

const text = async stream => Buffer.concat(await stream.toArray());
const parts = async client => {
  const whole = await client.download("2", undefined, { uid: true });
  assert.equal((await text(whole.content)).toString(), withParts);
  const words = await client.download("2", "1", { uid: true });
  assert.equal((await text(words.content)).toString().trim(), "schön");
  const file = await client.download("2", "2", { uid: true, chunkSize: 1000 });
  assert.equal(file.meta.filename, "a.bin");
  assert.deepEqual(await text(file.content), attachment);
  const many = await client.downloadMany("2", ["1", "2"], { uid: true });
  assert.deepEqual(many["2"].content, attachment);
  const binary = await client.fetchOne("2", { bodyParts: ["2"] }, { uid: true, binary: true });
  assert.deepEqual(binary.bodyParts.get("2"), attachment);
};

const searches = async (client, all) => {
  const finds = async (query, want) => assert.deepEqual(await client.search(query, { uid: true }), want);
  await finds({ all: true }, [1, 2, 3, 4, 5]);
  await finds({ subject: "grüße" }, [2]);
  await finds({ body: "schön" }, [2]);
  await finds({ from: "ALICE", keyword: "urgent" }, [1]);
  await finds({ not: { flagged: true }, seq: "1:3" }, [2, 3]);
  await finds({ or: [{ subject: "three" }, { header: { "message-id": "four" } }] }, [3, 4]);
  await finds({ sentSince: new Date("2026-11-03"), larger: 1000 }, [2]);
  await finds({ before: new Date("2026-11-05T00:00:00Z") }, [1]);
  await finds({ emailId: all[3].emailId }, [4]);
  await finds({ threadId: all[0].threadId }, [1, 5]);
  await finds({ modseq: all[4].modseq }, [5]);
  await finds({ text: "nowhere" }, []);
  assert.deepEqual(await client.search({ all: true }, { uid: true, returnOptions: ["MIN", "MAX", "COUNT", "ALL"] }), { min: 1, max: 5, count: 5, all: "1:5" });
  const page = await client.search({ all: true }, { uid: true, returnOptions: [{ partial: "2:3" }] });
  assert.equal(page.partial.messages, "2:3");
};

// raw sends a command as it stands and gives its untagged responses of a name.
const raw = async (client, name, command, args) => {
  const got = [];
  const response = await client.exec(command, [{ type: "TEXT", value: args }], {
    untagged: { [name]: async untagged => { got.push(untagged.attributes); } },
  });
  response.next();
  const plain = v => Array.isArray(v) ? v.map(plain) : v?.value !== undefined ? v.value : v;
  return got.map(plain);
};

// extensions are those that ImapFlow has no methods for; its parser reads them.
const extensions = async client => {
  assert.deepEqual(await raw(client, "SORT", "UID SORT", "(REVERSE SUBJECT) UTF-8 ALL"), [["3", "2", "4", "1", "5"]]);
  assert.deepEqual(await raw(client, "THREAD", "UID THREAD", "REFERENCES UTF-8 ALL"), [[["1", "5"], ["3"], ["4"], ["2"]]]);
  const [fuzzy] = await raw(client, "ESEARCH", "UID SEARCH", 'RETURN (RELEVANCY COUNT) CHARSET UTF-8 FUZZY TEXT "schon"');
  assert.deepEqual(fuzzy.slice(1), ["UID", "COUNT", "1", "RELEVANCY", ["40"]]);
  await raw(client, "METADATA", "SETMETADATA", 'INBOX (/private/comment "mine" /shared/comment NIL)');
  assert.deepEqual(await raw(client, "METADATA", "GETMETADATA", "INBOX (/private/comment)"), [["INBOX", ["/private/comment", "mine"]]]);
  assert.deepEqual(await raw(client, "METADATA", "GETMETADATA", "(MAXSIZE 2) INBOX (/private/comment)"), []);
  const context = await raw(client, "ESEARCH", "UID SEARCH", "RETURN (UPDATE COUNT) UNSEEN");
  assert.deepEqual(context[0].slice(1), ["UID", "COUNT", "5"]);
  const multi = await raw(client, "ESEARCH", "ESEARCH", 'IN (personal) RETURN (COUNT) SUBJECT "dinner"');
  assert.deepEqual(multi.map(([where, ...found]) => [where[3], ...found]), [["INBOX", "UID", "COUNT", "2"]]);
};

const changes = async (client, other) => {
  assert.equal(await client.messageFlagsAdd("3:4", ["\\Seen", "$label1"], { uid: true }), true);
  assert.equal(await client.messageFlagsRemove("3", ["$label1"], { uid: true }), true);
  assert.equal(await client.messageFlagsSet("5", ["\\Answered"], { uid: true }), true);
  await client.setFlagColor("1", "purple", { uid: true });
  await other.mailboxOpen("INBOX");
  const flags = async uid => [...(await other.fetchOne(uid, { flags: true }, { uid: true })).flags].sort();
  assert.deepEqual(await flags("3"), ["\\Seen"]);
  assert.deepEqual(await flags("4"), ["$label1", "\\Seen"]);
  assert.deepEqual(await flags("5"), ["\\Answered"]);
  assert.equal((await other.fetchOne("1", { flags: true }, { uid: true })).flagColor, "purple");

  // What changed since it was read is left alone.
  const { modseq } = await client.fetchOne("3", { flags: true }, { uid: true });
  await other.messageFlagsAdd("3", ["$first"], { uid: true });
  await client.messageFlagsAdd("3", ["$second"], { uid: true, unchangedSince: modseq });
  assert.deepEqual(await flags("3"), ["$first", "\\Seen"]);

  const copied = await client.messageCopy("1:2", "Work", { uid: true });
  assert.deepEqual([...copied.uidMap], [[1, 1], [2, 2]]);
  const moved = await client.messageMove("5", "Archive", { uid: true });
  assert.deepEqual([...moved.uidMap], [[5, 1]]);
  assert.equal(await client.messageDelete("4", { uid: true }), true);
  assert.deepEqual(await client.search({ all: true }, { uid: true }), [1, 2, 3]);
  assert.equal((await other.status("Work", { messages: true, unseen: true })).messages, 2);
};

const idle = async (client, other) => {
  const next = events(client);
  await other.mailboxOpen("INBOX");
  const idling = client.idle();
  await other.append("INBOX", letter("six", "idle"));
  assert.deepEqual((({ count, prevCount }) => [count, prevCount])(await next("exists")), [4, 3]);
  await other.messageFlagsAdd("3", ["\\Flagged"], { uid: true });
  const flagged = await next("flags", e => e.uid == 3);
  assert.ok(flagged.flags.has("\\Flagged") && flagged.modseq > 0n);
  await other.messageDelete("2", { uid: true });
  assert.deepEqual((({ uid, vanished, earlier }) => [uid, vanished, earlier])(await next("expunge")), [2, true, false]);
  await client.noop(); // ends IDLE
  await idling;
};

// resync: a client that was away is told what changed and what went, and no more.
const resync = async (client, other) => {
  const { uidValidity, highestModseq } = await client.status("INBOX", { uidValidity: true, highestModseq: true });
  await client.mailboxClose();
  await other.mailboxOpen("INBOX");
  await other.messageFlagsAdd("1", ["$away"], { uid: true });
  await other.messageDelete("3", { uid: true });
  const next = events(client);
  const box = await client.mailboxOpen("INBOX", { uidValidity, changedSince: highestModseq });
  assert.equal(box.qresync, true);
  assert.equal(box.exists, 2);
  assert.ok(box.highestModseq > highestModseq);
  assert.deepEqual((({ uid, vanished, earlier }) => [uid, vanished, earlier])(await next("expunge")), [3, true, true]);
  assert.ok((await next("flags")).flags.has("$away"));
  assert.deepEqual((await client.fetchAll("1:*", { flags: true }, { uid: true, changedSince: highestModseq })).map(m => m.uid), [1]);
};

const main = await open({ port: Number(tlsPort), secure: true, qresync: true });
for (const name of ["CONDSTORE", "QRESYNC", "IMAP4REV2", "UTF8=ACCEPT"]) {
  assert.ok([...main.enabled].some(e => e.toUpperCase() == name), `${name} is not enabled: ${[...main.enabled]}`);
}
assert.ok(main._inflate, "COMPRESS is off");
const other = await open({ port: Number(plainPort), doSTARTTLS: true, disableCompression: true, disableIMAP4rev2: true });
assert.ok(!other._inflate && other.secureConnection);
await folders(main);
const all = await messages(main);
await parts(main);
await searches(main, all);
await extensions(main);
await changes(main, other);
await idle(main, other);
await resync(main, other);
const quota = await main.getQuota("INBOX");
assert.ok(quota.storage.usage > 0 && quota.storage.limit == 10_000 * 1024, JSON.stringify(quota));
await main.logout();
await other.logout();
console.log("done");
