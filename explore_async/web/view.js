"use strict";
const $ = (id) => document.getElementById(id);
const el = (name, text, attributes = {}) => { const element = document.createElement(name); if (text != null) element.textContent = plain(text); for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value); return element; };
// Control characters, and characters that change the direction of text, are shown as U+FFFD.
const plain = (text) => String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
const number = (value, digits = 0) => value == null ? "–" : Number(value).toLocaleString("en", { maximumFractionDigits: digits });
const of = (what) => `api/runs/${$("runs").value}/${what}`;
let events = null, selected = "", next = null, asked = 0, looked = 0, rates = [], tasks = [];

async function get(path) {
  const response = await fetch(path);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || response.statusText);
  return body;
}

async function start() {
  await runs();
  $("runs").addEventListener("change", open);
  $("runs").addEventListener("focus", () => runs().catch(() => {}));  // new runs may have appeared
  open();
}

async function runs() {
  const found = await get("api/runs"), chosen = $("runs").value;
  $("runs").replaceChildren(...found.map((run, index) => el("option", `${run.name} (${run.path})${run.error ? ": cannot be read" : ""}`, { value: index })));
  if (chosen) $("runs").value = chosen;
}

function open() {
  if (events) events.close();
  selected = ""; rates = []; looked++;
  $("evidence").replaceChildren(el("p", "Choose an example or a task.", { class: "soft" }));
  events = new EventSource(of("events"));
  let first = true;
  events.onmessage = (event) => {
    const before = tasks.length;
    const state = JSON.parse(event.data);
    if (state.error) { $("status").textContent = plain(state.error); return; }
    show(state);
    if (first || (state.live.on && !before)) list();
    first = false;
  };
  events.onerror = () => { $("status").textContent = "the view has been stopped; start it again with: explore-async view"; };
}

function figure(name, value) {
  const box = el("div", null, { class: /^[\d,.–]+$/.test(value) ? "figure" : "figure words" });
  box.append(el("b", value), el("span", name));
  return box;
}

function line(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 150 26"); svg.setAttribute("aria-hidden", "true");
  const most = Math.max(...values, 1), path = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  path.setAttribute("points", values.map((value, index) => `${(150 * index) / Math.max(1, values.length - 1)},${25 - 24 * value / most}`).join(" "));
  path.setAttribute("fill", "none"); path.setAttribute("stroke", "currentColor"); path.setAttribute("stroke-width", "1.5");
  svg.append(path);
  return svg;
}

function show(state) {
  const live = state.live, stats = state.stats;
  document.title = `${plain(state.name)} – explore_async`;
  $("simulated").hidden = !state.simulated;
  $("trouble").hidden = !(live.on && live.trouble);
  $("trouble").textContent = plain(live.trouble);
  $("status").textContent = live.on ? `running for ${number(live.elapsed_s)} s` : state.ending ? `ended: ${plain(state.ending)}` : "not running";
  const kept = live.on ? live.kept : stats.examples?.kept ?? state.tree.reduce((sum, task) => sum + task.kept, 0);
  const dropped = live.on ? live.dropped : stats.examples?.dropped.total ?? state.tree.reduce((sum, task) => sum + task.dropped, 0);
  const shown = [figure(state.target ? `of ${number(state.target)} examples kept` : "examples kept", number(kept)), figure("dropped", number(dropped)), figure("tasks", number(state.tree.length))];
  if (live.on) {
    rates.push(live.tokens_per_s); rates = rates.slice(-120);
    const speed = figure("output tokens/s", number(live.tokens_per_s)); speed.append(line(rates));
    shown.push(speed, figure(`of ${number(live.capacity)} in flight`, number(live.in_flight)));
    if (live.engines) shown.push(figure("servers", live.engines.replace(/^servers: /, "")));
  } else if (stats.tokens) shown.push(figure("tokens read", number(stats.tokens.prompt)), figure("tokens written", number(stats.tokens.completion)), figure("requests", number(stats.requests?.total)));
  const reasons = Object.entries((live.on ? live.reasons : stats.examples?.dropped) || {}).filter(([name]) => name !== "total");
  if (reasons.length) shown.push(figure("why dropped", reasons.map(([name, count]) => `${name} ${number(count)}`).join(", ")));
  $("figures").replaceChildren(...shown);
  tasks = state.tree;
  tree();
}

function tree() {
  const focused = document.activeElement?.dataset?.task;
  const items = [{ id: "", name: "all", depth: -1, kept: tasks.reduce((sum, task) => sum + task.kept, 0), dropped: tasks.reduce((sum, task) => sum + task.dropped, 0), origin: "" }, ...tasks].map((task) => {
    const item = el("li", null, { role: "treeitem", tabindex: task.id === selected ? "0" : "-1", "aria-selected": String(task.id === selected), "aria-level": task.depth + 2 });
    item.dataset.task = task.id;
    item.style.paddingLeft = `${6 + 16 * (task.depth + 1)}px`;
    item.append(el("span", task.name, { class: task.origin }), " ", el("small", `${number(task.kept)} kept${task.dropped ? `, ${number(task.dropped)} dropped` : ""}${task.origin === "backtrack" ? ", backtracking" : ""}${task.exhausted ? ", exhausted" : ""}`));
    return item;
  });
  $("tree").replaceChildren(...items);
  if (focused != null) items.find((item) => item.dataset.task === focused)?.focus();
}

function choose(item) {
  selected = item.dataset.task;
  for (const other of $("tree").children) { const chosen = other === item; other.setAttribute("aria-selected", String(chosen)); other.tabIndex = chosen ? 0 : -1; }
  item.focus();
  list();
  if (selected) evidence({ id: selected });
}

$("tree").addEventListener("click", (event) => { const item = event.target.closest("li"); if (item) choose(item); });
$("tree").addEventListener("keydown", (event) => {
  const items = [...$("tree").children], at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to != null && items[to]) { event.preventDefault(); items[to].tabIndex = 0; items[to].focus(); }
  if ((event.key === "Enter" || event.key === " ") && at >= 0) { event.preventDefault(); choose(items[at]); }
});

async function list(more = false) {
  const mine = ++asked;
  if (!more) { next = 0; $("list").replaceChildren(); }
  $("more").hidden = true;
  let rows = 0;
  while (mine === asked) {
    const query = new URLSearchParams({ what: $("what").value, task: selected, query: $("query").value, offset: next });
    let found;
    try { found = await get(of(`examples?${query}`)); } catch (error) { $("found").textContent = plain(error.message); return; }
    if (mine !== asked) return;
    for (const row of found.rows) $("list").append(entry(row));
    rows += found.rows.length; next = found.next;
    $("found").textContent = `${number($("list").children.length)} shown` + (next == null ? ", the end" : ` of the first ${number(100 * found.searched / Math.max(1, found.of))} %`);
    if (next == null || rows >= 50) break;
  }
  $("more").hidden = next == null;
}

function entry(row) {
  const item = el("li"), button = el("button", null, { type: "button" });
  const text = row.instruction ?? row.excerpt ?? row.name ?? row.reason;
  button.append(el("span", text || "(empty)"));
  if (row.found) button.append(el("small", `${row.found.field}: … ${row.found.text} …`, { class: "hit" }));
  const about = row.task_path ? row.task_path.slice(-1)[0] : row.task_id ?? row.parent ?? "";
  button.append(el("small", [row.id ?? row.what, row.kept === false ? row.reason : null, row.score != null ? `ROUGE-L ${number(row.score, 3)}` : null, about].filter(Boolean).join(" · ")));
  if (row.id || row.request) button.addEventListener("click", () => evidence(row)); else button.disabled = true;
  item.append(button);
  return item;
}

async function evidence(row) {
  const mine = ++looked;
  let found;
  try { found = await get(of(`evidence?${new URLSearchParams(row.id ? { id: row.id } : { request: row.request })}`)); } catch (error) { if (mine === looked) $("evidence").replaceChildren(el("p", error.message, { class: "soft" })); return; }
  if (mine !== looked) return;  // another item was chosen meanwhile
  const shown = el("dl");
  const add = (name, text, long) => { if (text == null || text === "") return; shown.append(el("dt", name), el("dd", text, long ? { class: "long" } : {})); };
  const decision = found.decision ?? row, example = found.example;
  shown.append(el("dt", "decision"), el("dd", `${decision.kept ? "kept" : decision.what === "failure" ? "failed" : "dropped"}: ${decision.reason}`, { class: decision.kept ? "kept" : "dropped" }));
  if (row.id) add(decision.what, row.id); else add(decision.parent ? "below task" : "of task", decision.parent ?? decision.task_id);
  add("name", decision.name);
  if (example) { add("task", example.task_path.join(" > ")); add("instruction", example.instruction); add("input", example.input, true); add("output", example.output, true); }
  else add("instruction", decision.instruction ?? decision.excerpt);
  if (found.nearest) add(`nearest, ROUGE-L ${number(decision.score, 3)}`, `${found.nearest.id}: ${found.nearest.instruction ?? ""}`);
  for (const message of found.request?.messages || []) add(`prompt, ${message.role}`, message.content, true);
  if (found.answer?.reasoning) add("reasoning", found.answer.reasoning, true);
  if (found.answer) { add("raw completion", found.answer.text, true); add("completed by", `${found.answer.model} at ${found.answer.endpoint} in ${number(found.answer.seconds, 1)} s; ${number(found.answer.prompt_tokens)} tokens read (${number(found.answer.cached_tokens)} cached), ${number(found.answer.completion_tokens)} written`); }
  if (found.failure) add("failed", `${found.failure.kind}: ${found.failure.detail}`, true);
  $("evidence").replaceChildren(shown);
}

$("search").addEventListener("submit", (event) => { event.preventDefault(); list(); });
$("what").addEventListener("change", () => list());
$("more").addEventListener("click", () => list(true));
start().catch((error) => { $("status").textContent = plain(error.message); });
