"use strict";
/* The stages side by side, and one line followed through all of them by its origin. */

const { views, lines: texts, origins } = report.pipeline;
const panes = [...document.querySelectorAll(".pane")].map((element, side) => ({
  side,
  choice: element.querySelector("select"),
  code: element.querySelector(".code"),
  stage: 0,
  active: 0,
}));
const kernels = new Map(report.kernels.map((kernel) => [kernel.name, kernel]));
const MOST_JUMPS = 4;
const KERNEL_LEVELS = ["cluster", "isa"];
const FRAME = /^\s*(?:[}^]|func\.func |cluster\.kernel |isa\.kernel )/; // lines around operations, which the trail leaves out
let view = views[0];
let selected = null; // { stage, line }

const originOf = (stage, line) => view.stages[stage].origins[line];

/** Whether two origins belong together: a place in common, and no different steps of the algorithm. */
function related(one, other) {
  if (one < 0 || other < 0) return false;
  if (one === other) return true;
  const [a, b] = [origins[one], origins[other]];
  if (a.step && b.step && a.step !== b.step) return false;
  if (!a.places.length || !b.places.length) return a.step !== "" && a.step === b.step;
  return a.places.some((place) => b.places.includes(place));
}

/** What an instruction took: its entry in `kernels`, or null. */
function cyclesOf(stage, line) {
  const name = view.stages[stage].instructions[line];
  if (!name) return null;
  const at = name.lastIndexOf(":");
  return kernels.get(name.slice(0, at))?.instructions[Number(name.slice(at + 1))] ?? null;
}

const spent = (cycles) => Object.values(cycles.cycles).reduce((sum, each) => sum + each, 0);

/** The causes of an instruction's cycles, most first. */
const causesOf = ({ cycles }) => Object.entries(cycles).sort(([, a], [, b]) => b - a).map(([cause, number]) => `${cause} ${whole(number)}`).join(", ");

/** A line's text with its operation and its strings set off. */
function inked(text, level) {
  if (level === "Python") return [text];
  const parts = text.split(/("[^"]*"|\b(?:dcom|cluster|isa|linalg|tensor|arith|math|func|scf)\.[\w.]+)/);
  return parts.map((part, index) => (index % 2 ? make("span", { class: part.startsWith('"') ? "text" : "op", text: part }) : part));
}

function showStage(pane, number) {
  pane.stage = number;
  pane.active = 0;
  pane.choice.value = String(number);
  const stage = view.stages[number];
  const timed = stage.instructions.length > 0;
  const most = timed ? Math.max(1, ...stage.lines.map((_, line) => cyclesOf(number, line)).map((cycles) => (cycles ? spent(cycles) : 0))) : 1;
  const rows = stage.lines.map((text, line) => {
    const cycles = timed ? cyclesOf(number, line) : null;
    const gutter = make("span", { class: timed ? "gutter cycles" : "gutter", text: timed ? (cycles ? whole(spent(cycles)) : "") : line + 1 });
    if (cycles) {
      gutter.style.background = `linear-gradient(to left, var(--bar) ${(100 * spent(cycles)) / most}%, var(--code) 0)`;
      gutter.title = `${whole(spent(cycles))} cycles of the stream in ${count(cycles.issues, "issue")}: ${causesOf(cycles)}; its unit busy ${whole(cycles.busy)}`;
    }
    const row = make("div", { role: "option", id: `line-${pane.side}-${line}`, "aria-selected": "false" }, gutter, make("span", {}, ...inked(texts[text], stage.level)));
    if (stage.origins[line] >= 0) row.dataset.origin = stage.origins[line];
    return row;
  });
  pane.code.replaceChildren(...rows);
  pane.code.scrollTo(0, 0);
  pane.code.setAttribute("aria-label", `${stage.name}, ${count(rows.length, "line")}${timed ? ", with cycles of the stream" : ""}`);
  mark(pane);
  markStrip();
}

/** Mark a pane's lines, and bring the chosen one, or the first related one, into sight. */
function mark(pane, scroll = true) {
  const origin = selected ? originOf(selected.stage, selected.line) : -1;
  let target = null;
  [...pane.code.children].forEach((row, line) => {
    const chosen = selected !== null && selected.stage === pane.stage && selected.line === line;
    const joined = related(origin, originOf(pane.stage, line));
    row.classList.toggle("chosen", chosen);
    row.classList.toggle("related", joined && !chosen);
    row.setAttribute("aria-selected", String(joined));
    if (chosen || (joined && !target)) target = row;
  });
  if (target && scroll) {
    pane.code.scrollTop = Math.max(0, target.offsetTop - pane.code.clientHeight / 3);
    activate(pane, [...pane.code.children].indexOf(target), false);
  }
}

function activate(pane, line, scroll = true) {
  const rows = pane.code.children;
  rows[pane.active]?.classList.remove("active");
  pane.active = Math.max(0, Math.min(line, rows.length - 1));
  const row = rows[pane.active];
  if (!row) return;
  if (document.activeElement === pane.code) row.classList.add("active");
  pane.code.setAttribute("aria-activedescendant", row.id);
  if (scroll) row.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function select(stage, line) {
  selected = originOf(stage, line) >= 0 ? { stage, line } : null;
  byId("clear").disabled = selected === null;
  panes.forEach((pane) => mark(pane, !(pane.stage === stage && document.activeElement === pane.code)));
  showTrail();
  document.dispatchEvent(new CustomEvent("selection"));
}

/** Open a stage's line, from the trail or the timeline: in the right pane unless the left has the stage. */
function jump(stage, line) {
  const pane = panes.find((each) => each.stage === stage) ?? panes[1];
  if (pane.stage !== stage) showStage(pane, stage);
  select(stage, line);
  mark(pane);
}

/** Whether an instruction of a kernel belongs to the selection; true for all without one. */
function isSelected(kernel, instruction) {
  if (!selected) return true;
  const at = view.stages.findLastIndex((stage) => stage.instructions.length);
  const line = at < 0 ? -1 : view.stages[at].instructions.indexOf(`${kernel}:${instruction}`);
  if (line < 0) return false;
  if (selected.stage === at && view.stages[at].instructions[selected.line]) return selected.line === line;
  return related(originOf(selected.stage, selected.line), originOf(at, line));
}

function showTrail() {
  if (!selected) {
    byId("trail").replaceChildren();
    return;
  }
  const origin = originOf(selected.stage, selected.line);
  const modules = origins[origin].places.map((place) => report.pipeline.places[place]);
  const names = [...new Set(modules.map((place) => place.module.replace(/^model\.layers\.\*\./, "")))];
  const steps = view.stages.map((stage, number) => {
    const found = stage.lines.map((_, line) => line).filter((line) => related(origin, originOf(number, line)) && !FRAME.test(texts[stage.lines[line]]));
    const cycles = found.map((line) => cyclesOf(number, line)).filter(Boolean);
    const total = cycles.reduce((sum, each) => sum + spent(each), 0);
    const about = cycles.length ? `${count(cycles.length, "instruction")}, ${whole(total)} cycles a run` : count(found.length, "line");
    const jumps = found.map((line) => make("button", { type: "button", class: "jump", text: texts[stage.lines[line]].trim(), onclick: () => jump(number, line) }));
    const rest = jumps.splice(MOST_JUMPS);
    const item = make("li", {}, make("h4", {}, `${stage.name} `, make("small", { text: `${stage.level}, ${about}` })), ...jumps);
    if (rest.length) item.append(make("details", {}, make("summary", { text: `${rest.length} more` }), ...rest));
    return found.length ? item : null;
  });
  const step = origins[origin].step;
  byId("trail").replaceChildren(
    make("h3", { text: `Followed through the levels: ${[step, names.join(", ")].filter(Boolean).join(" of ")}` }),
    make("ol", {}, ...steps.filter(Boolean)),
    ...(steps.some((item, number) => item && KERNEL_LEVELS.includes(view.stages[number].level)) ? [] : [make("p", { text: "No instruction comes of it: the host runs it." })]),
  );
}

/** Lines that a stage has and the one before it has not, and the reverse. */
function changes(number) {
  if (!number || view.stages[number].level !== view.stages[number - 1].level) return "";
  const tally = (stage, sign, counts) => stage.lines.forEach((line) => counts.set(line, (counts.get(line) ?? 0) + sign));
  const counts = new Map();
  tally(view.stages[number], 1, counts);
  tally(view.stages[number - 1], -1, counts);
  const values = [...counts.values()];
  const sum = (sign) => values.filter((value) => value * sign > 0).reduce((total, value) => total + Math.abs(value), 0);
  return `, +${sum(1)} −${sum(-1)}`;
}

function markStrip() {
  [...byId("strip").querySelectorAll("button")].forEach((button, number) =>
    button.setAttribute("aria-pressed", String(panes.some((pane) => pane.stage === number))),
  );
}

function showView(number) {
  view = views[number];
  selected = null;
  byId("clear").disabled = true;
  const names = view.stages.map((stage) => `${stage.name} (${stage.level})`);
  panes.forEach((pane) => pane.choice.replaceChildren(...names.map((text, value) => make("option", { value, text }))));
  byId("strip").replaceChildren(
    ...view.stages.map((stage, index) =>
      make("li", {}, make("button", { type: "button", onclick: () => showPair(index) }, stage.name, make("small", { text: `${stage.level}: ${count(stage.lines.length, "line")}${changes(index)}` }))),
    ),
  );
  const dcom = view.stages.findLastIndex((stage) => stage.level === "dcom");
  showPair(Math.max(dcom, 1));
  showTrail();
}

/** A stage on the right, and the one before it on the left. */
function showPair(number) {
  showStage(panes[0], Math.max(number - 1, 0));
  showStage(panes[1], Math.min(Math.max(number, 1), view.stages.length - 1));
}

function onKey(pane, event) {
  const page = Math.max(1, Math.floor(pane.code.clientHeight / 20) - 1);
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (event.key in moves) activate(pane, pane.active + moves[event.key]);
  else if (event.key === "Enter" || event.key === " ") select(pane.stage, pane.active);
  else if (event.key === "Escape") select(pane.stage, -1);
  else return;
  event.preventDefault();
}

function startPipeline() {
  if (!view) {
    byId("pipeline").hidden = true;
    return;
  }
  byId("pipeline-about").textContent =
    (report.dumps ? `The stages before the kernels are those in ${report.dumps}. ` : "The program holds its model as compiled; the stages before are shown with --stages. ") +
    `Kernels are lowered anew from it and equal the program’s. Layers that differ in their number alone are shown once; in origins their number is *.`;
  byId("view").append(...views.map((each, value) => make("option", { value, text: each.layers.length > 1 ? `${ranges(each.layers)}, as layer ${each.shown}` : `${each.shown}` })));
  byId("view").addEventListener("change", (event) => showView(Number(event.target.value)));
  byId("clear").addEventListener("click", () => select(0, -1));
  for (const pane of panes) {
    pane.choice.addEventListener("change", () => showStage(pane, Number(pane.choice.value)));
    pane.code.addEventListener("keydown", (event) => onKey(pane, event));
    pane.code.addEventListener("focus", () => activate(pane, pane.active, false));
    pane.code.addEventListener("blur", () => pane.code.children[pane.active]?.classList.remove("active"));
    pane.code.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (!row) return;
      const line = [...pane.code.children].indexOf(row);
      activate(pane, line, false);
      select(pane.stage, line);
    });
  }
  showView(0);
}
