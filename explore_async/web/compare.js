"use strict";
const KEPT_NAME = "explore_async rater";
const VERDICTS = { "1": "left", ArrowLeft: "left", "0": "tie", "2": "right", ArrowRight: "right" };
let rater = kept(), shown = null, busy = false;

// A browser may keep nothing: the name is then typed again.
function kept(name) {
  try { if (name != null) localStorage.setItem(KEPT_NAME, name); return localStorage.getItem(KEPT_NAME) ?? ""; } catch { return name ?? ""; }
}

function trouble(text) { $("trouble").hidden = !text; $("trouble").textContent = plain(text); }

// One request at a time, so that a key that is pressed twice gives one verdict.
async function ask(path, body) {
  if (busy) return;
  busy = true;
  for (const button of document.querySelectorAll("footer button")) button.disabled = true;
  try {
    show(await get(path, body));
    trouble("");
  } catch (error) {
    trouble(error instanceof TypeError ? "No response: nothing was kept. Is explore-async compare still running?" : error.message);
  }
  busy = false;
  for (const button of document.querySelectorAll("footer button")) button.disabled = button.value && !shown;
}

function open() {
  $("enter").hidden = Boolean(rater);
  $("who").hidden = !rater;
  $("rater").textContent = plain(rater);
  if (rater) return ask(`api/state?${new URLSearchParams({ rater })}`);
  for (const id of ["question", "controls", "progress", "end"]) $(id).hidden = true;
  $("name").focus();
}

function show(state) {
  shown = state.question;
  const before = state.before?.id === shown?.id ? state.before : null;
  $("bar").max = state.of || 1; $("bar").value = state.done;
  $("count").textContent = `${number(state.done)} of ${number(state.of)} judged`;
  $("progress").hidden = $("controls").hidden = false;
  $("question").hidden = $("choices").hidden = $("remark").hidden = !shown;
  $("end").hidden = Boolean(shown);
  $("comment").value = before?.comment ?? "";
  for (const button of $("choices").children) button.classList.toggle("before", button.value === before?.verdict);
  if (!shown) return;
  $("instruction").replaceChildren(prose(shown.instruction));
  $("input").replaceChildren(prose(shown.input));
  $("input").hidden = !shown.input;
  for (const side of ["left", "right"]) $(side).lastElementChild.replaceChildren(prose(shown[side]));
  window.scrollTo(0, 0);
  $("asked").focus({ preventScroll: true });
}

function judge(verdict) { if (shown) ask("api/verdicts", { rater, id: shown.id, verdict, comment: $("comment").value }); }
function undo() { if (rater && !$("controls").hidden) ask("api/undo", { rater }); }

$("enter").addEventListener("submit", (event) => { event.preventDefault(); rater = $("name").value.trim(); if (rater) { kept(rater); open(); } });
$("change").addEventListener("click", () => { if (!busy) { $("name").value = rater; rater = kept(""); shown = null; trouble(""); open(); } });
$("choices").addEventListener("click", (event) => { const button = event.target.closest("button"); if (button) judge(button.value); });
$("undo").addEventListener("click", undo);
$("comment").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); $("asked").focus({ preventScroll: true }); } });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input")) return;
  if (VERDICTS[event.key]) { event.preventDefault(); judge(VERDICTS[event.key]); }
  else if (event.key === "u") undo();
  else if (event.key === "c" && shown) { event.preventDefault(); $("comment").focus(); }
});
open();
