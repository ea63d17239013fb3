// Words for people, and octets as text.

export const viaNames = { dns: "DNS", smtp: "SMTP", pop3: "POP3", imap: "IMAP", tls: "TLS", queue: "queue", mailbox: "mailbox", check: "check", other: "" };
export const signs = { root: ".", tld: "T", names: "N", resolver: "?", mail: "✉", person: "☺", web: "W", other: "•" };
export const roleNames = { root: "root name server", tld: "name server of a top-level domain", names: "name server", resolver: "resolver", mail: "mail server", person: "mail program", web: "web server", other: "host" };

/** section turns "RFC 5321 section 4.1.1.2" into a link that opens apart. */
export function section(text) {
  const m = /^RFC (\d+)(?: section ([0-9.]+))?$/.exec(text);
  return m && "https://www.rfc-editor.org/rfc/rfc" + m[1] + (m[2] ? "#section-" + m[2] : "");
}

/** octets decodes base64. */
export function octets(base64) {
  return base64 ? Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)) : new Uint8Array();
}

/** dump shows octets as offset, hexadecimal and text. */
export function dump(bytes) {
  const rows = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from(row, (b) => b.toString(16).padStart(2, "0")).join(" ");
    const text = Array.from(row, (b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join("");
    rows.push(at.toString(16).padStart(4, "0") + "  " + hex.padEnd(47) + "  " + text);
  }
  return rows.join("\n");
}

/** time shows the time of a step to the millisecond. */
export function clockTime(text) {
  const d = new Date(text);
  return isNaN(d) ? "" : d.toLocaleTimeString("en-GB") + "." + String(d.getMilliseconds()).padStart(3, "0");
}

/** date shows the lab's time. */
export function dateTime(d) {
  return isNaN(d) ? "" : d.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" }) + " " + d.toLocaleTimeString("en-GB");
}
