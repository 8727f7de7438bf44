"use strict";
// Requests in flight beside the most that may be: that number falls while they are under way.
const inFlight = (now, most) => now <= most ? `${number(now)} of ${number(most)}` : `${number(now)}, going down to ${number(most)}`;
const of = (what) => `api/runs/${openRun}/${what}`;
const MOST_FOLLOWED = 500;  // entries that a list grows to by itself while a run goes on
let openRun = "", isNew = true, events = null, selected = "", next = 0, done = false, loading = false, asked = 0, looked = 0, rates = [], tasks = [], now = null;

async function start() {
  await runs();
  $("runs").addEventListener("change", open);
  setInterval(() => { if (document.activeElement !== $("runs")) runs().catch(() => {}); }, 5000);  // new runs may have appeared
  document.addEventListener("visibilitychange", listen);
  open();
}

let known = "";
async function runs() {
  const found = await get("api/runs");
  if (events?.readyState === EventSource.CLOSED) listen();
  if (known === JSON.stringify(found)) return;
  known = JSON.stringify(found);
  $("runs").replaceChildren(...found.map((run) => el("option", `${run.name} (${run.path})${run.error ? ": cannot be read" : ""}`, { value: run.run })));
  if (openRun) $("runs").value = openRun;
}

function open() {
  openRun = $("runs").value;
  selected = ""; rates = []; now = null; looked++;
  $("report").hidden = true;
  $("report").href = of("report");
  $("evidence").replaceChildren(el("p", "Choose an example or a task.", { class: "soft" }));
  isNew = true;
  listen();
}

// Follows the run while the page is seen: a browser has six connections to the view for all its tabs.
function listen() {
  if (events) events.close();
  if (document.hidden) return;
  events = new EventSource(of("events"));
  events.onmessage = (event) => {
    const state = JSON.parse(event.data), marks = JSON.stringify(now?.marks);
    if (state.error) { $("status").textContent = plain(state.error); return; }
    show(state);
    if (isNew || ($("what").value === "marked" && marks !== JSON.stringify(state.marks))) list();
    else follow();
    isNew = false;
  };
  events.onerror = () => { stopped(events); };
}

// Tells why there are no events: the view is not there, or it has no such run.
async function stopped(stream) {
  let why = "the view has been stopped; start it again with: explore-async view";
  if (stream.readyState === EventSource.CLOSED) try { await get(of("state")); } catch (error) { if (!(error instanceof TypeError)) why = error.message; }
  if (stream === events) $("status").textContent = plain(why);
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

// The phase of a run with its progress, and the time that is left.
function progress(live) {
  const steps = live.steps ? ` (${number(live.steps.done)} of ${live.steps.at_most ? "at most " : ""}${number(live.steps.of)} ${live.steps.what})` : "";
  return [`running for ${number(live.elapsed_s)} s`, live.phase ? `${live.phase}${steps}` : "", live.left_s == null ? "" : left(live.left_s)].filter(Boolean).join(", ");
}

function left(seconds) {
  if (seconds < 60) return "less than a minute left";
  const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60);
  return `about ${hours ? `${number(hours)} h ` : ""}${minutes % 60} min left`;
}

// The mean of scores, given how often there is each.
function mean(counts) {
  const all = Object.entries(counts);
  return all.reduce((sum, [score, count]) => sum + score * count, 0) / all.reduce((sum, [, count]) => sum + count, 0);
}

// A row for each endpoint: its state, and its rates of the last minute.
function endpoints(live) {
  const rows = live.on ? live.endpoints ?? [] : [];
  $("endpoints").hidden = !rows.length;
  const table = el("table"), head = el("tr"), body = el("tbody");
  for (const name of ["endpoint", "state", "tokens/s", "completions/s", "median s", "in flight", "failed attempts"]) head.append(el("th", name, { scope: "col" }));
  for (const one of rows) {
    const row = el("tr"), state = one.state === "slow" && one.slower ? `${number(one.slower, 1)}× slower` : one.state;
    row.append(el("td", one.url), el("td", state, { class: plain(one.state) }));
    for (const value of [number(one.tokens_per_s), number(one.answers_per_s, 1), number(one.latency_s?.p50, 1), one.limit ? inFlight(one.in_flight, one.limit) : number(one.in_flight), number(one.failed_attempts)]) row.append(el("td", value));
    body.append(row);
  }
  const header = el("thead"); header.append(head);
  table.append(header, body);
  $("endpoints").replaceChildren(table);
}

function show(state) {
  const live = state.live, stats = state.stats;
  now = state;
  $("report").hidden = !state.has_report;
  document.title = `${plain(state.name)} – explore_async`;
  $("simulated").hidden = !state.simulated;
  for (const name of ["trouble", "held_up"]) { $(name).hidden = !(live.on && live[name]); $(name).textContent = plain(live[name]); }
  $("status").textContent = live.on ? plain(progress(live)) : state.ending ? `ended: ${plain(state.ending)}` : "not running";
  const kept = live.on ? live.kept : stats.examples?.kept ?? state.tree.reduce((sum, task) => sum + task.kept, 0);
  const dropped = live.on ? live.dropped : stats.examples?.dropped.total ?? state.tree.reduce((sum, task) => sum + task.dropped, 0);
  const boxes = [figure(state.target ? `of ${number(state.target)} examples kept` : "examples kept", number(kept)), figure("dropped", number(dropped)), figure("tasks", number(state.tree.length))];
  if (live.on) {
    rates.push(live.tokens_per_s); rates = rates.slice(-120);
    const speed = figure("output tokens/s", number(live.tokens_per_s)); speed.append(line(rates));
    boxes.push(speed, figure(live.in_flight <= live.capacity ? `of ${number(live.capacity)} in flight` : `in flight, going down to ${number(live.capacity)}`, number(live.in_flight)));
    if (live.unfinished) boxes.push(figure(`instructions wait for ${live.awaited}`, number(live.unfinished)));
    if (live.stored_not_judged) boxes.push(figure("stored, not judged yet", number(live.stored_not_judged)));
    if (live.engines) boxes.push(figure("servers", live.engines.replace(/^servers: /, "")));
  } else if (stats.tokens) boxes.push(figure("tokens read", number(stats.tokens.prompt)), figure("tokens written", number(stats.tokens.completion)), figure("requests", number(stats.requests?.total)));
  const reasons = Object.entries((live.on ? live.reasons : stats.examples?.dropped) || {}).filter(([name]) => name !== "total");
  if (reasons.length) boxes.push(figure("why dropped", reasons.map(([name, count]) => `${name} ${number(count)}`).join(", ")));
  const instructions = live.on ? live.instructions : stats.instructions;
  if (instructions) boxes.push(figure("new instructions", number(instructions)));
  const scores = Object.entries((live.on ? live.scores : stats.scores) || {});
  if (scores.length) boxes.push(figure("the judge's mean scores, from 1 to 5", scores.map(([aspect, counts]) => `${aspect} ${number(mean(counts), 2)}`).join(", ")));
  const marks = Object.entries(state.marks);
  if (marks.length) boxes.push(figure("marked", marks.map(([name, count]) => `${name} ${number(count)}`).join(", ")));
  $("figures").replaceChildren(...boxes);
  endpoints(live);
  tasks = state.tree;
  tree();
  count();
}

function tree() {
  const focused = document.activeElement?.dataset?.task;
  const items = [{ id: "", name: "all", depth: -1, kept: total("kept", ""), dropped: total("dropped", ""), origin: "" }, ...tasks].map((task) => {
    const item = el("li", null, { role: "treeitem", tabindex: task.id === selected ? "0" : "-1", "aria-selected": String(task.id === selected), "aria-level": task.depth + 2 });
    item.dataset.task = task.id;
    item.style.paddingLeft = `${6 + 16 * (task.depth + 1)}px`;
    item.append(el("span", task.name, { class: task.origin }), " ", el("small", `${number(task.kept)} kept${task.dropped ? `, ${number(task.dropped)} dropped` : ""}${task.origin === "backtrack" ? ", backtracking" : ""}${task.criterion ? `, by ${task.criterion}` : ""}${task.exhausted ? ", exhausted" : ""}`));
    return item;
  });
  $("tree").replaceChildren(...items);
  if (focused != null) items.find((item) => item.dataset.task === focused)?.focus();
}

// The kept or dropped examples of a task and those below it; of all tasks by the newest counts of the run.
function total(what, task) {
  if (!task && now?.live.on) return now.live[what];
  return tasks.filter((one) => !task || one.id === task || one.id.startsWith(`${task}.`)).reduce((sum, one) => sum + one[what], 0);
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

async function list(more = false, most = 50) {
  const mine = ++asked;
  if (!more) { next = 0; done = false; $("list").replaceChildren(); }
  $("more").hidden = true;
  loading = true;
  let rows = 0;
  while (mine === asked) {
    const query = new URLSearchParams({ what: $("what").value, task: selected, query: $("query").value, offset: next });
    let found;
    try { found = await get(of(`examples?${query}`)); } catch (error) { if (mine === asked) { $("found").textContent = plain(error.message); loading = false; } return; }
    if (mine !== asked) return;
    if (found.of < next) return list();  // the run began its files anew
    $("list").append(...found.rows.map(entry));
    rows += found.rows.length; next = found.next; done = found.done;
    count(found.of);
    if (done || rows >= most) break;
  }
  loading = false;
  $("more").hidden = done;
}

// A list that was read to its end goes on with what a run appends.
function follow() {
  if (!done || loading) return;
  const room = MOST_FOLLOWED - $("list").children.length;
  if (room > 0) list(true, room); else $("more").hidden = false;
}

function count(size) {
  const what = $("what").value, listed = number($("list").children.length);
  const all = $("query").value || what !== "kept" ? null : total(what, selected);  // the dropped are tasks too
  if (all != null) $("found").textContent = `${listed} of ${number(Math.max(all, $("list").children.length))} ${what}`;
  else if (done) $("found").textContent = `${listed} found`;
  else if (size) $("found").textContent = `${listed} found in the first ${number(100 * next / size)} %`;
}

const measure = (row) => row.reason === "paraphrase" ? "cosine" : "ROUGE-L";

function entry(row) {
  const item = el("li"), button = el("button", null, { type: "button" });
  if (row.id) item.dataset.example = row.id;
  const text = row.instruction ?? row.excerpt ?? row.name ?? row.reason;
  button.append(el("span", text || "(empty)"));
  if (row.found) button.append(el("small", `${row.found.field}: … ${row.found.text} …`, { class: "hit" }));
  const about = row.task_path ? row.task_path.slice(-1)[0] : row.task_id ?? row.parent ?? "";
  button.append(el("small", [row.id ?? row.what, row.kept === false ? row.reason : null, row.score != null ? `${measure(row)} ${number(row.score, 3)}` : null, row.scores ? `scores ${Object.values(row.scores).join(" ")}` : null, about].filter(Boolean).join(" · ")));
  if (row.mark) button.append(marked(row.mark, row.mark_note));
  if (row.id || row.request) button.addEventListener("click", () => evidence(row)); else button.disabled = true;
  item.append(button);
  return item;
}

const marked = (mark, note) => el("small", `marked ${mark}${note ? `: ${note}` : ""}`, { class: mark });

// Buttons to mark an example as good or bad, and a note; the keys g and b do the same.
function markForm(row, mark, note, kept) {
  const form = el("form", null, { id: "mark", "aria-label": "Mark" });
  const text = el("input", null, { type: "text", "aria-label": "Note", placeholder: "Note", maxlength: "2000" });
  text.value = note;
  const buttons = ["good", "bad"].map((name) => el("button", name === "good" ? "Good" : "Bad", { type: "button", value: name, "aria-pressed": String(name === mark), title: `Key ${name[0]}` }));
  const save = async (wanted) => {
    let saved;
    try { saved = await get(of("marks"), { id: row.id, mark: wanted, note: text.value }); } catch (error) { hint.textContent = plain(error.message); return; }
    mark = saved.mark;
    hint.textContent = [mark ? "saved" : "", aside].filter(Boolean).join("; ");
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === mark));
    for (const item of $("list").children) if (item.dataset.example === row.id) { const button = item.firstChild; button.querySelector("small.good, small.bad")?.remove(); if (mark) button.append(marked(mark, saved.note)); }
  };
  const aside = kept ? "" : "it was dropped: exports leave it out, whatever its mark";
  const hint = el("small", aside, { class: "soft", role: "status" });
  for (const button of buttons) button.addEventListener("click", () => save(button.value === mark ? null : button.value));
  text.addEventListener("change", () => { if (mark) save(mark); });
  form.addEventListener("submit", (event) => { event.preventDefault(); if (mark) save(mark); else hint.textContent = "choose Good or Bad"; });
  form.append(...buttons, text, hint);
  return form;
}

async function evidence(row) {
  const mine = ++looked;
  let found;
  try { found = await get(of(`evidence?${new URLSearchParams(row.id ? { id: row.id } : { request: row.request })}`)); } catch (error) { if (mine === looked) $("evidence").replaceChildren(el("p", error.message, { class: "soft" })); return; }
  if (mine !== looked) return;  // another item was chosen meanwhile
  const shown = el("dl");
  const add = (name, text, long) => { if (text == null || text === "") return; const value = el("dd", null, long ? { class: "long" } : {}); value.append(prose(text)); shown.append(el("dt", name), value); };
  const raw = (name, text) => { const value = el("dd", null, { class: "long" }); value.append(el("code", text, { class: "whole" })); shown.append(el("dt", name), value); };
  const decision = found.decision ?? row, example = found.example;
  shown.append(el("dt", "decision"), el("dd", `${decision.kept ? "kept" : decision.what === "failure" ? "failed" : "dropped"}: ${decision.reason}`, { class: decision.kept ? "kept" : "dropped" }));
  if (row.id) add(decision.what, row.id); else add(decision.parent ? "below task" : "of task", decision.parent ?? decision.task_id);
  add("name", decision.name);
  add("task", (example?.task_path ?? found.task_path ?? []).join(" > "));
  if (found.turns) for (const turn of found.turns) add(turn.role, turn.text, true);
  else if (example) { add("instruction", example.instruction, example.instruction.length > 300); add("input", example.input, true); add("output", example.output, true); }
  else { add("instruction", decision.instruction ?? decision.excerpt); add("input", found.draft?.input, true); add("output", found.draft?.output, true); }
  if (!found.turns) add("system", example?.system, true);
  for (const name of ["passage", "topic", "style"]) add(name, (example ?? decision)[name]);
  add("facets", ((example ?? decision).facets ?? []).map((facet) => `${facet.criterion}: ${facet.value}`).join("; "));
  const scored = (name, scores) => { const all = Object.entries(scores ?? {}); if (all.length) add(name, all.map(([aspect, score]) => `${aspect} ${score}`).join(", ")); };
  scored("scores", example?.scores);
  if (found.nearest) add(`nearest, ${measure(decision)} ${number(decision.score, 3)}`, `${found.nearest.id}: ${found.nearest.instruction ?? ""}`);
  if (found.copied) add("output copied from", found.copied.what === "demonstration" ? `demonstration ${found.copied.id ?? "of the recipe"}` : `its own ${found.copied.what}`);
  const exchange = ({ request, completion, failure }) => {
    for (const message of request?.messages || []) add(`prompt, ${message.role}`, message.content, true);
    if (completion?.reasoning) add("reasoning", completion.reasoning, true);
    if (completion) { raw("raw completion", completion.text); add("completed by", `${completion.model} at ${completion.endpoint} in ${number(completion.latency_s, 1)} s; ${number(completion.prompt_tokens)} tokens read (${number(completion.cached_tokens)} cached), ${number(completion.completion_tokens)} written`); }
    if (failure) add("failed", `${failure.kind}: ${failure.detail}`, true);
  };
  if (!found.steps) exchange(found);
  for (const step of found.steps ?? []) {
    const what = `${{ scores: "judge of answer", check: `check ${step.check} of answer` }[step.what] ?? step.what}${step.answer == null ? "" : ` ${step.answer}`}${step.turn == null ? "" : ` in turn ${step.turn}`}`;
    shown.append(el("dt", what, { class: "step" }), el("dd", step.kept ? "passed" : `dropped: ${step.reason}`, { class: step.kept ? "kept" : "dropped" }));
    scored("scores", step.scores);
    add("its reason", step.why ?? step.detail);
    exchange(step.asked ?? {});
  }
  $("evidence").replaceChildren(shown);
  if (decision.what === "example" && row.id) $("evidence").prepend(markForm(row, found.mark?.mark ?? null, found.mark?.note ?? "", decision.kept));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const button = { g: "good", b: "bad" }[event.key];
  if (button) document.querySelector(`#mark button[value=${button}]`)?.click();
});
$("list").addEventListener("keydown", (event) => {
  const item = document.activeElement.closest("#list li"), to = { ArrowDown: item?.nextElementSibling, ArrowUp: item?.previousElementSibling }[event.key];
  if (to) { event.preventDefault(); to.firstChild.focus(); to.firstChild.click(); }
});

$("search").addEventListener("submit", (event) => { event.preventDefault(); list(); });
$("what").addEventListener("change", () => list());
$("more").addEventListener("click", () => list(true));
start().catch((error) => { $("status").textContent = plain(error.message); });
