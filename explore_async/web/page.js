"use strict";
// What the view and the comparison share.
const $ = (id) => document.getElementById(id);
const el = (name, text, attributes = {}) => { const element = document.createElement(name); if (text != null) element.textContent = plain(text); for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value); return element; };
// Control characters, and characters that change the direction of text, are shown as U+FFFD.
const plain = (text) => String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
const number = (value, digits = 0) => value == null ? "–" : Number(value).toLocaleString("en", { maximumFractionDigits: digits });

async function get(path, body) {
  const response = await fetch(path, body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

// A text with its code in monospace: what stands between fences or backticks, or all of it where its lines are code.
function prose(text) {
  const parts = document.createDocumentFragment(), trimmed = (part, all) => all.length > 1 ? part.replace(/^\n+|\n+$/g, "") : part;
  String(text).split(/^ {0,3}(```|~~~)[^\n]*\n([\s\S]*?)(?:^ {0,3}\1[ \t]*(?:\n|$)|$(?![\s\S]))/m).forEach((part, index, all) => {
    if (index % 3 === 2) parts.append(el("code", part.replace(/\n$/, ""), { class: "block" }));
    else if (index % 3 === 0 && isCode(part)) parts.append(el("code", part, { class: "block" }));
    else if (index % 3 === 0) trimmed(part, all).split(/(?<!`)(`)(?!`)([^`\n]+)`(?!`)/).forEach((piece, at) => { if (at % 3 === 2) parts.append(el("code", piece)); else if (at % 3 === 0 && piece) parts.append(plain(piece)); });
  });
  return parts;
}

// True where at least two lines, and half of all, look like code. Lists and tables are not code.
function isCode(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  const code = lines.filter((line) => !/^\s*([-*+•|]|\d+[.)])\s/.test(line) && (/^(\t| {2,})\S/.test(line) || /[;{}]\s*$/.test(line) || /^\s*(def|class|import|from|return|for|while|if|elif|else|try|except|function|const|let|var|public|private|#include|SELECT|FROM|WHERE|INSERT|UPDATE)\b.*[:;({,)"'>]/.test(line) || /^\s*<\/?[a-z][^>]*>/i.test(line) || /^\s*[\w.[\]]+ ?[-+*/]?= ?\S/.test(line)));
  return code.length >= 2 && code.length * 2 >= lines.length;
}
