"use strict";
/* What all parts of the page use: the report's values, elements, tables, numbers. */

const report = JSON.parse(document.getElementById("report").textContent);
const byId = (id) => document.getElementById(id);

/** A new element; `attributes` may hold `class`, `text`, listeners (`onclick`) and any attribute. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const whole = (value) => Math.round(value).toLocaleString("en-GB");
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const fixed = (digits) => (value) => (value === null || value === undefined ? "" : value.toFixed(digits));

/** A number in four or fewer digits with the prefix of a unit: 87.1 M. */
function quantity(value, unit = "") {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let step = 0;
  while (value >= 999.5 && step < prefixes.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${Number(value.toPrecision(3))} ${prefixes[step]}${unit}`.trim();
}

function duration(seconds) {
  const [size, unit] = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]].find(([least]) => seconds >= least) ?? [1e-9, "ns"];
  return `${Number((seconds / size).toPrecision(3))} ${unit}`;
}

const count = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Numbers as ranges: 1–3, 7. */
function ranges(numbers) {
  const parts = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}

/** Entries together by a key, in the order of their first. */
function groupBy(entries, key) {
  const groups = new Map();
  for (const entry of entries) {
    const name = key(entry);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(entry);
  }
  return [...groups.values()];
}

/** A table. A column is [heading, function of a row, "number" | "wide" | "layers" | "step" | "code" | undefined]. */
function table(columns, rows, caption) {
  const cell = (row, [, value, kind]) => {
    const found = value(row);
    const plain = !kind || kind === "code" || (kind === "layers" && found.length < 12);
    const attributes = plain ? {} : { class: kind };
    if (found instanceof Node) return make("td", attributes, found);
    return kind === "code" ? make("td", {}, make("code", { text: found })) : make("td", { ...attributes, text: found });
  };
  const heading = ([text, , kind]) => make("th", { scope: "col", class: kind === "number" ? kind : null, text });
  const element = make("table", { "aria-label": caption });
  element.append(make("thead", {}, make("tr", {}, ...columns.map(heading))));
  element.append(make("tbody", {}, ...rows.map((row) => make("tr", {}, ...columns.map((column) => cell(row, column))))));
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption ?? "Table" }, element);
  return make("div", {}, ...(caption ? [make("p", { class: "caption", text: caption })] : []), scroll);
}
