"use strict";
// Opens items and trajectories. Whatever comes from a run is set as text, never as markup.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const report = $("report"), view = $("view"), tip = $("tip");
const CHUNK = Number($("index").dataset.chunk);
const ALONE = "alone" in $("index").dataset; // one item, shown below a page of its own
const FIELDS = ["run", "task", "unit", "length", "depth", "outcome", "cause"];
const STEPS = "tr[data-row], .side > .turn"; // what j and k go through
const KINDS = { sample: "sample of the document, for the server's count of its tokens" };
const HIDDEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const TOKENS = new RegExp([
  /(?<m>#[^\n]*)/, /(?<s>[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))/,
  /\b(?<k>and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|not|or|pass|raise|return|try|while|with|yield|None|True|False|FINAL|FINAL_VAR|llm_query|llm_query_batched|query_chunks|rlm_query)\b/,
  /\b(?<d>\d[\d_.]*)/].map((r) => r.source).join("|"), "g");

let items = null, shown = null, listed = [], address = "", scrolled = 0, current = -1;
const chunks = new Map();

// Control characters, invisible ones and half characters by their numbers.
const visible = (text) => text.replace(HIDDEN, (c) =>
  "\u27e8U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u27e9");

function make(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === "" || child === false) continue;
    node.append(child instanceof Node ? child : visible(String(child)));
  }
  return node;
}

function drawn(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function detail(number) {
  const chunk = Math.floor(number / CHUNK);
  if (!chunks.has(chunk)) {
    if (chunks.size > 8) chunks.clear();
    chunks.set(chunk, await unpack("chunk" + chunk));
  }
  return chunks.get(chunk)[number % CHUNK];
}

// Texts: parts that were left out, the evidence marked, code coloured.

function marked(text, evidence) {
  let pieces = [text];
  for (const sentence of evidence.filter(Boolean)) {
    pieces = pieces.flatMap((piece) => typeof piece !== "string" ? [piece] :
      piece.split(sentence).flatMap((part, i) => i ? [make("mark", {}, sentence), part] : [part]));
  }
  return pieces;
}

function coloured(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const kind = Object.keys(match.groups).find((key) => match.groups[key] !== undefined);
    found.push(text.slice(end, match.index), make("span." + kind, {}, match[0]));
    end = match.index + match[0].length;
  }
  return [...found, text.slice(end)];
}

const parts = (text) => Array.isArray(text) ? text : [text];

function block(text, kind, paint) {
  return make("pre" + (kind ? "." + kind : ""), {}, parts(text).map((part) =>
    typeof part === "number"
      ? make("span.gap", {}, `\u2026 ${part.toLocaleString("en")} characters not shown \u2026`)
      : paint(part)));
}

const plain = (text, kind) => block(text, kind, (part) => marked(part, shown ? shown.evidence : []));
const code = (text) => block(text, "code", coloured);
const sent = (messages) => messages.map(([role, text]) => [make("div.role", {}, role), plain(text)]);
const seconds = (value) => value.toFixed(value < 10 ? 2 : 1) + " s";
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const where = (item) => `${item.task} ${label(item.length)}` + (item.unit === "tokens" ? "" : " chars") +
  (item.depth === null ? "" : `, depth ${item.depth} %`);

const name = (item) => item.name || `${where(item)}, sample ${item.sample}` + (item.draw ? `, draw ${item.draw}` : "");

function label(length) {
  for (const [letter, size] of [["M", 1048576], ["k", 1024]]) {
    if (length % size === 0) return length / size + letter;
  }
  return String(length);
}

// Views

function bar(title, ...buttons) {
  return make("div.bar", {}, make("h2", {}, title), buttons);
}

const button = (text, key, action, disabled) =>
  make("button", { type: "button", onclick: action, disabled: !!disabled, title: key }, text);

function choose(query) {
  const wanted = query.split("/").map(decodeURIComponent);
  return items.flatMap((item, number) => FIELDS.every((field, i) => {
    const value = item[field] === null ? "none" : String(item[field]);
    return wanted[i] === undefined || wanted[i] === "*" || wanted[i] === value;
  }) ? [number] : []);
}

function list(query) {
  listed = choose(query);
  address = "#/list/" + query;
  shown = null;
  const several = new Set(listed.map((n) => where(items[n]))).size > 1;
  const names = [...new Set(listed.flatMap((n) => items[n].answers.map((a) => a[0])))];
  const head = make("tr", {}, ["item", "gold", ...names, "outcome"].map((name) => make("th", {}, name)));
  const rows = listed.map((number, i) => {
    const item = items[number];
    const cells = names.map((name) => {
      const answer = item.answers.find((a) => a[0] === name);
      return make("td", {}, answer && [make("span.verdict." + answer[1], {}, answer[1]), answer[3] && ` (${answer[3]})`, " ", answer[2]]);
    });
    const title = (several ? where(item) + ", " : "") + `sample ${item.sample}` + (item.draw ? `, draw ${item.draw}` : "");
    const outcome = { both: "both right", right: "only rlm", left: "only vanilla", neither: "neither" }[item.outcome] || "";
    return make("tr", { onclick: () => go("#/item/" + number), "data-row": i },
      make("td", {}, make("a", { href: "#/item/" + number }, title)), make("td", {}, item.gold), cells,
      make("td", {}, outcome + (item.cause ? ` (${item.cause})` : "")));
  });
  const first = listed.length ? items[listed[0]] : null;
  const told = [...report.querySelectorAll("a[data-tip]")].filter((link) => link.getAttribute("href") === address)
    .map((link) => make("p.note", {}, link.dataset.tip));
  const title = first ? (several ? `${first.task}: ${count(listed.length, "item")}` : `${where(first)}: ${count(listed.length, "item")}`) : "no item";
  view.replaceChildren(...[bar(title, make("span.keys", {}, make("kbd", {}, "j"), " ", make("kbd", {}, "k"), " ", make("kbd", {}, "Enter")),
    button("Back", "Esc", back)), told,
    make(".wide", {}, make("table.items", {}, make("thead", {}, head), make("tbody", {}, rows)))].flat());
  select(Math.max(0, listed.indexOf(current)), true);
}

function select(index, quietly) {
  const rows = [...view.querySelectorAll(STEPS)];
  if (!rows.length) return;
  const at = Math.min(Math.max(index, 0), rows.length - 1);
  rows.forEach((row, i) => row.classList.toggle("on", i === at));
  if (!quietly) rows[at].scrollIntoView({ block: rows[at].tagName === "TR" ? "nearest" : "start" });
}

function step(by) {
  const rows = [...view.querySelectorAll(STEPS)];
  select(rows.findIndex((row) => row.classList.contains("on")) + by);
}

function neighbour(by) {
  const next = listed[listed.indexOf(current) + by];
  if (next !== undefined) go("#/item/" + next, true);
}

function minimap(item) {
  const part = item.entries.find((entry) => entry.cut);
  const picture = drawn("svg", { viewBox: `0 0 ${item.chars} ${part ? 76 : 58}`, preserveAspectRatio: "none", class: part ? "tall" : "" });
  const rect = (kind, [start, end], y, height, least) => {
    const width = Math.max(end - start, item.chars * least);
    const x = Math.min(Math.max(0, start - (width - (end - start)) / 2), item.chars - width);
    picture.append(drawn("rect", { class: kind, x, y, width, height }));
  };
  item.spans.forEach((span) => rect("needle", span, 2, 16, 0.006));
  const loop = item.entries.find((entry) => entry.printed) || {};
  (loop.printed || []).forEach((span) => rect("printed", span, 22, 14, 0.003));
  (loop.passed || []).forEach((span) => rect("passed", span, 40, 14, 0.003));
  if (part) part.cut.kept.forEach((span) => rect("kept", span, 58, 14, 0.003));
  picture.append(drawn("title", {}));
  picture.lastChild.textContent = `document of ${item.chars} characters`;
  const key = [...(item.spans.length ? [["needle", "evidence"]] : []), ["printed", "shown to a root model"], ["passed", "passed to a sub-call"],
    ...(part ? [["kept", `kept in ${part.architecture}'s prompt`]] : [])].map(([kind, text]) => {
    const swatch = drawn("svg", { class: "swatch", viewBox: "0 0 12 12" });
    swatch.append(drawn("rect", { class: kind, width: 12, height: 12 }));
    return make("span", {}, swatch, text);
  });
  const share = typeof loop.share === "number" ? `${Math.round(100 * loop.share)} % of the evidence seen` : "";
  return make(".mini", {}, picture, make("p.key", {}, make("span", {}, `document, ${item.chars.toLocaleString("en")} characters`), key, share && make("span", {}, share)));
}

const opening = (one) => make("details", { open: !one.turns.length },
  make("summary", {}, one.turns.length ? "what the root model saw first" : "what the model saw"), sent(one.sent));

// A loop that a cell opened: its turns, and in them the loops that these opened.
function below(made, open) {
  const found = made.error ? "failed" : parts(made.answer)[0].slice(0, 90) || "no answer";
  const facts = [made.tokens && `${made.tokens[0].toLocaleString("en")} + ${made.tokens[1].toLocaleString("en")} tokens`,
    count(made.turns.length, "turn"), made.ended_by && `ended by ${made.ended_by}`].filter(Boolean).join(", ");
  return make("details.loop", { open: open }, make("summary", {}, `loop on ${count(made.chars, "character")}: ${found} (${facts})`),
    make(".role", {}, "query"), plain(made.query), made.sent.length > 0 && opening(made),
    made.turns.map(turn), made.others.map((other) => call(other, false)),
    made.answer.length > 0 && [make(".role", {}, "answer"), plain(made.answer)],
    made.error && make(".failed", {}, made.error));
}

function call(made, open) {
  if (made.kind === "loop") return below(made, open);
  const kind = KINDS[made.kind] || made.kind;
  const head = made.error ? `${kind}: failed` : `${kind}: ${parts(made.answer)[0].slice(0, 90)}`;
  const cost = made.tokens.length ? ` (${made.tokens[0]} + ${made.tokens[1]} tokens, ${seconds(made.seconds)})` : "";
  return make("details", { open: open }, make("summary", {}, head + cost), sent(made.sent),
    made.answer !== null && [make("div.role", {}, "answer" + (made.finish === "length" ? ", cut off" : "")), plain(made.answer)],
    made.error && make(".failed", {}, made.error), made.retries.map((why) => make(".role", {}, "sent again: " + why)));
}

const tree = (calls) => calls.length > 0 && make(".tree", {}, calls.map((made) => call(made, calls.length <= 3)));

function cell(ran) {
  return [code(ran.code), tree(ran.subs),
    ran.output.length > 0 && [make(".role", {}, `output, ${count(ran.output_chars, "character")}`), plain(ran.output)],
    ran.error && plain(ran.error, "error"),
    ran.final !== null && make(".final", {}, "FINAL: ", parts(ran.final).map((p) => typeof p === "number" ? " \u2026 " : p))];
}

function turn(one) {
  const facts = [one.cells.map((ran) => ran.status).join(", ") || "no code",
    one.dropped.length && `output of turn ${one.dropped.join(", ")} dropped before it`].filter(Boolean).join("; ");
  return make(".turn", { tabindex: "-1" }, make("h4", {}, `turn ${one.number} `, make("small.role", {}, facts)),
    one.reply.length > 0 && [make(".role", {}, "reply as it was written"), plain(one.reply)],
    one.cells.map(cell), tree(one.subs),
    one.rejected && make(".rejected", {}, one.rejected),
    one.feedback.length > 0 && make("details", {}, make("summary", {}, "what the model was told"), plain(one.feedback)));
}

function side(entry, names, pick) {
  const facts = [entry.tokens && `${entry.tokens[0].toLocaleString("en")} + ${entry.tokens[1].toLocaleString("en")} tokens`,
    count(entry.calls, "call"), seconds(entry.seconds), entry.window && `window ${entry.window}`,
    entry.ended_by && entry.ended_by !== "answered" && `ended by ${entry.ended_by}`].filter(Boolean).join(", ");
  const name = names.length > 1
    ? make("select", { onchange: (event) => pick(event.target.value), "aria-label": "architecture" },
      names.map((n) => make("option", { value: n, selected: n === entry.architecture }, n)))
    : make("span", {}, entry.architecture);
  const turns = entry.turns || [], cut = entry.cut;
  const spans = (found) => found.map(([start, end]) => `${start.toLocaleString("en")} to ${end.toLocaleString("en")}`).join(" and ");
  return make(".side", {},
    make("h3", {}, name, make("span.verdict." + entry.verdict, {}, entry.verdict + (entry.cause ? `: ${entry.cause}` : "")), entry.mark && make("span", {}, entry.mark), make("small", {}, facts)),
    cut && make(".cut", {}, `${cut.method} kept: characters ${spans(cut.kept)} of ${cut.chars.toLocaleString("en")}; left out on purpose: ${spans(cut.left_out)}`),
    make(".role", {}, "answer" + (entry.prediction_chars > entry.prediction.length ? `, the first of ${entry.prediction_chars} characters` : "")),
    plain(entry.prediction || "(none)"),
    entry.error && make(".failed", {}, entry.error),
    entry.sent ? opening(entry) : make(".role", {}, "no trajectory"),
    turns.map(turn), (entry.others || []).map((made) => call(made, made.kind !== "sample")),
    entry.trace && make(".role", {}, "whole texts: " + entry.trace));
}

async function item(number) {
  current = number;
  shown = await detail(number);
  const row = items[number], names = shown.entries.map((entry) => entry.architecture);
  if (!ALONE && !listed.includes(number)) {
    const query = FIELDS.slice(0, 5).map((field) => encodeURIComponent(row[field] === null ? "none" : row[field])).join("/");
    listed = choose(query);
    address = row.name ? "" : "#/list/" + query; // logs stand on the first page
  }
  const left = names.includes("vanilla") ? "vanilla" : names[0];
  const right = names.includes("rlm") ? "rlm" : names.find((name) => name !== left);
  const draw = (chosen) => make(".sides", {}, chosen.filter(Boolean).map((name, i) =>
    side(shown.entries.find((entry) => entry.architecture === name), names.length > 2 ? names : [name],
      (other) => sides.replaceWith(sides = draw(i ? [chosen[0], other] : [other, chosen[1]])))));
  let sides = draw([left, right === left ? undefined : right]);
  const at = listed.indexOf(number);
  const turnKeys = [make("kbd", {}, "j"), " ", make("kbd", {}, "k"), " turn"];
  const head = ALONE ? [bar(row.title, make("span.keys", {}, turnKeys))] : [
    bar(name(row),
      make("span.keys", {}, turnKeys, "  ", make("kbd", {}, "\u2190"), " ", make("kbd", {}, "\u2192"), " item"),
      make("span", {}, `${at + 1} of ${listed.length}`),
      button("\u2190", "previous item", () => neighbour(-1), at <= 0), button("\u2192", "next item", () => neighbour(1), at + 1 >= listed.length),
      button("Back", "Esc", back)),
    make("dl", {}, make("dt", {}, "question"), make("dd", {}, shown.question || "(not in the log; see what the root model saw first)"),
      shown.gold !== null && [make("dt", {}, "gold"), make("dd", {}, shown.gold)])];
  view.replaceChildren(...head, shown.chars ? minimap(shown) : "", sides);
}

// Where we are stands in the address, so that the browser's own Back works too.

function go(hash, replace) {
  if (replace) { history.replaceState(null, "", hash); route(); } else location.hash = hash;
}

function back() {
  go(location.hash.startsWith("#/item/") && address ? address : "#/");
}

async function alone() {
  items = await unpack("index");
  view.hidden = false;
  await item(0);
}

async function route() {
  const [, kind, rest] = location.hash.match(/^#\/(list|item)\/(.*)$/) || [];
  hideTip();
  if (kind && !items) items = await unpack("index");
  if (!kind) {
    view.hidden = true;
    report.hidden = false;
    view.replaceChildren();
    window.scrollTo(0, scrolled);
    return;
  }
  if (!report.hidden) scrolled = window.scrollY;
  report.hidden = true;
  view.hidden = false;
  if (kind === "list") list(rest);
  else if (items[Number(rest)]) await item(Number(rest));
  window.scrollTo(0, 0);
  view.focus({ preventScroll: true });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || view.hidden || event.target.tagName === "SELECT") return;
  const inItem = location.hash.startsWith("#/item/");
  const keys = { j: () => step(1), k: () => step(-1), ...(ALONE ? {} : { Escape: back }) };
  if (inItem) Object.assign(keys, { ArrowLeft: () => neighbour(-1), ArrowRight: () => neighbour(1) });
  else if (!ALONE) Object.assign(keys, { ArrowDown: () => step(1), ArrowUp: () => step(-1),
    Enter: () => view.querySelector("tr.on")?.click() });
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
}

function showTip(event) {
  const target = event.target.closest("[data-tip]");
  if (!target) return hideTip();
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const place = target.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const x = Math.min(Math.max(6, place.left + place.width / 2 - size.width / 2), innerWidth - size.width - 6);
  const y = place.top > size.height + 10 ? place.top - size.height - 6 : place.bottom + 6;
  tip.style.left = x + "px";
  tip.style.top = y + "px";
}

function hideTip() { tip.hidden = true; }

for (const name of ["mouseover", "focusin"]) report.addEventListener(name, showTip);
for (const name of ["mouseleave", "focusout"]) report.addEventListener(name, hideTip);
addEventListener("keydown", onKey);
if (ALONE) alone();
else {
  addEventListener("hashchange", route);
  route();
}
