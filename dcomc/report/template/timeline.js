"use strict";
/* The timeline of a kernel, its cycles by cause and unit, and its costliest instructions. */

const STREAM = "stream";
const UNITS = [...new Set(report.kernels.flatMap((each) => Object.keys(each.busy).filter((unit) => each.busy[unit] > 0)))];
const ZOOM = 3;
let kernel = report.kernels[0];
let stream = 0;
let range = [0, 1];
let timelineView = null;

/** The text and the step of each instruction of a kernel, where a view shows it. */
function instructionsOf(name) {
  for (const each of views) {
    const stage = each.stages.findLast((found) => found.instructions.some((text) => text.startsWith(`${name}:`)));
    if (!stage) continue;
    return stage.instructions.flatMap((text, line) =>
      text.startsWith(`${name}:`) ? [{ text: texts[stage.lines[line]].trim(), step: origins[stage.origins[line]]?.step ?? "" }] : [],
    );
  }
  return kernels.get(name).instructions.map((_, number) => ({ text: `instruction ${number}`, step: "" }));
}

const lastEvent = () => Math.max(1, ...kernel.event_ends.filter((_, index) => kernel.event_streams[index] === stream));

function showTimeline() {
  const instructions = instructionsOf(kernel.name);
  const all = kernel.event_instructions.map((number, index) => ({
    number,
    stream: kernel.event_streams[index],
    unit: kernel.event_units[index] === STREAM ? "stream waits" : kernel.event_units[index],
    cause: kernel.event_causes[index],
    start: kernel.event_starts[index],
    end: kernel.event_ends[index],
    cycles: kernel.event_ends[index] - kernel.event_starts[index],
    ...instructions[number],
    work: instructions[number].step.replace(/, pass \d+$/, "") || "other",
  }));
  const events = all.filter((event) => event.stream === stream);
  const units = [...UNITS, "stream waits"].filter((unit) => events.some((event) => event.unit === unit));
  const steps = [...new Set(events.map((event) => event.work))];
  range = [0, lastEvent()];
  const which = kernel.all_streams > 1 ? ` of stream ${stream} of ${whole(kernel.all_streams)}, ${kernel.streams[stream]},` : "";
  const part = lastEvent() < kernel.cycles * 0.98 ? ` The first ${whole(lastEvent())} cycles are shown.` : "";
  chart(
    byId("events"),
    `${kernel.name}: what each unit${which} works on and when the stream waits, ${count(kernel.cycles, "cycle")} for ${count(kernel.matrices, "matrix").replace("matrixs", "matrices")}.${part}`,
    (width) => ({
      data: { values: events },
      params: [{ name: "from", value: range[0] }, { name: "to", value: range[1] }, { name: "chosen", value: chosenInstructions() }],
      height: 34 * units.length,
      mark: { type: "rect", clip: true, height: { band: 0.8 }, cursor: "pointer" },
      encoding: {
        x: { field: "start", type: "quantitative", title: "cycle", scale: { domainMin: { expr: "from" }, domainMax: { expr: "to" }, nice: false, zero: false }, axis: { tickCount: Math.max(3, Math.floor(width / 110)), grid: false } },
        x2: { field: "end" },
        y: { field: "unit", type: "nominal", scale: { domain: units }, title: null, axis: { ticks: false, domain: false } },
        color: { field: "work", type: "nominal", scale: { domain: steps, range: colours(steps.length) }, legend: legendBelow(width) },
        opacity: { condition: { test: "length(chosen) === 0 || indexof(chosen, datum.number) >= 0", value: 1 }, value: 0.15 },
        tooltip: [{ field: "text", title: "instruction" }, { field: "step" }, { field: "cause", title: "waits for" }, { field: "start", format: "," }, { field: "cycles", format: "," }],
      },
    }),
    table(
      [
        ["step", ([event]) => event.step || "other"],
        ...units.map((unit) => [unit, (group) => whole(group.filter((event) => event.unit === unit).reduce((sum, event) => sum + event.cycles, 0)), "number"]),
      ],
      groupBy(events, (event) => event.step),
      "Cycles that each unit works and that the stream waits, by step of the algorithm",
    ),
    {
      renderer: "canvas",
      then: (made) => {
        timelineView = made;
        made.addEventListener("click", (_, item) => item?.datum?.number !== undefined && openInstruction(item.datum.number));
        sayRange();
      },
    },
  );
}

/** Select an instruction in the pipeline. */
function openInstruction(number) {
  const name = `${kernel.name}:${number}`;
  const owner = views.findIndex((each) => each.stages.some((stage) => stage.instructions.includes(name)));
  if (owner < 0) return;
  if (views[owner] !== view && !view.stages.some((stage) => stage.instructions.includes(name))) {
    byId("view").value = String(owner);
    showView(owner);
  }
  const stage = view.stages.findLastIndex((each) => each.instructions.includes(name));
  jump(stage, view.stages[stage].instructions.indexOf(name));
}

function chosenInstructions() {
  if (!selected) return [];
  const found = kernel.instructions.map((_, number) => number).filter((number) => isSelected(kernel.name, number));
  return found.length ? found : [-1];
}

function sayRange() {
  const chosen = chosenInstructions();
  const marked = chosen.length ? (chosen[0] < 0 ? " Nothing of the selection runs in this kernel." : ` ${count(chosen.length, "instruction")} of the selection.`) : "";
  byId("range").textContent = `Cycles ${whole(range[0])} to ${whole(range[1])}.${marked}`;
}

function zoom(how) {
  const [from, to] = range;
  const [width, middle, end] = [to - from, (from + to) / 2, lastEvent()];
  const wanted = {
    whole: [0, end],
    in: [middle - width / ZOOM / 2, middle + width / ZOOM / 2],
    out: [middle - (width * ZOOM) / 2, middle + (width * ZOOM) / 2],
    earlier: [from - width / 2, to - width / 2],
    later: [from + width / 2, to + width / 2],
  }[how];
  const span = Math.min(Math.max(wanted[1] - wanted[0], 40), end);
  const start = Math.max(0, Math.min(wanted[0], end - span));
  range = [Math.round(start), Math.round(start + span)];
  timelineView?.signal("from", range[0]).signal("to", range[1]).runAsync();
  sayRange();
}

function showCauses() {
  const causes = report.kernels.flatMap((each) => Object.entries(each.causes).map(([cause, cycles]) => ({ kernel: each.name, cause, cycles, share: cycles / each.cycles })));
  const order = groupBy(causes, (each) => each.cause).sort((a, b) => Math.max(...b.map((each) => each.share)) - Math.max(...a.map((each) => each.share))).map(([first]) => first.cause);
  const most = causes.reduce((best, each) => (each.share > best.share ? each : best));
  chart(
    byId("causes"),
    `Cycles of each kernel’s stream by cause: issuing, or what it waited for; of several streams the mean. Most: ${most.cause}, ${percent(most.share)} of ${most.kernel}.`,
    (width) => ({
      data: { values: causes.map((each) => ({ ...each, order: order.indexOf(each.cause) })) },
      height: 40 * report.kernels.length,
      mark: { type: "bar", height: 24 },
      encoding: {
        x: { field: "share", type: "quantitative", stack: "zero", title: "share of cycles", axis: { format: ".0%", tickCount: 5 }, scale: { domain: [0, 1] } },
        y: { field: "kernel", type: "nominal", sort: null, title: null, axis: kernelAxis(width) },
        color: { field: "cause", type: "nominal", scale: { domain: order, range: colours(order.length) }, legend: legendBelow(width) },
        order: { field: "order" },
        tooltip: [{ field: "kernel" }, { field: "cause" }, { field: "cycles", format: "," }, { field: "share", format: ".1%" }],
      },
    }),
    table(
      [["cause", (cause) => cause], ...report.kernels.map((each) => [each.name, (cause) => whole(each.causes[cause] ?? 0), "number"])],
      order,
      "Cycles by cause; those of a kernel add up to its total",
    ),
  );
  const busy = report.kernels.flatMap((each) => UNITS.map((unit) => ({ kernel: each.name, unit, share: (each.busy[unit] ?? 0) / each.cycles })));
  const axes = {
    x: { field: "unit", type: "nominal", sort: UNITS, title: null, axis: { orient: "top", labelAngle: 0, ticks: false, domain: false } },
    y: { field: "kernel", type: "nominal", sort: null, title: null, axis: { ticks: false, domain: false } },
  };
  chart(
    byId("busy"),
    "Share of a kernel’s cycles in which each unit works; for the banks, the mean of the columns.",
    (width) => ({
      data: { values: busy },
      height: 30 * report.kernels.length,
      encoding: { ...axes, x: { ...axes.x, axis: { ...axes.x.axis, labelLimit: width / 8 } }, y: { ...axes.y, axis: kernelAxis(width, axes.y.axis) } },
      layer: [
        {
          mark: { type: "rect", cornerRadius: 3, stroke: colour("--card"), strokeWidth: 2 },
          encoding: {
            color: { field: "share", type: "quantitative", scale: { domain: [0, 1], range: [colour("--page"), colour("--c0")] }, legend: null },
            tooltip: [{ field: "kernel" }, { field: "unit" }, { field: "share", format: ".1%" }],
          },
        },
        { mark: { type: "text", fontSize: width < 600 ? 10 : 12 }, encoding: { text: { field: "share", format: ".1%" }, color: { condition: { test: "datum.share > 0.55", value: colour("--card") }, value: colour("--ink") } } },
      ],
    }),
    table([["unit", (unit) => unit], ...report.kernels.map((each) => [each.name, (unit) => percent((each.busy[unit] ?? 0) / each.cycles), "number"])], UNITS),
  );
}

function showUses() {
  const uses = Object.keys(report.kernels[0].uses);
  const total = (each) => Object.values(each.uses).reduce((sum, number) => sum + number, 0);
  byId("uses").append(
    table(
      [
        ["kernel", (each) => each.name, "code"],
        ...uses.map((use) => [use, (each) => percent(total(each) ? each.uses[use] / total(each) : 0), "number"]),
        ["all", (each) => quantity(total(each)), "number"],
      ],
      report.kernels,
      "Multiplications of all clusters in a run: replicated ones are made in another cluster, too; padding is with zeros that fill tiles and slices up; other is what is of no activation",
    ),
  );
}

function showCostliest() {
  const instructions = instructionsOf(kernel.name);
  const costly = kernel.instructions
    .map((cycles, number) => ({ ...cycles, ...instructions[number], number, spent: spent(cycles) }))
    .sort((a, b) => b.spent - a.spent)
    .slice(0, 12);
  const button = (each) => make("button", { type: "button", class: "mono", text: each.text, onclick: () => openInstruction(each.number) || byId("pipeline").scrollIntoView() });
  byId("costliest").replaceChildren(
    table(
      [
        ["instruction", button],
        ["step", (each) => each.step, "step"],
        ["cycles of the stream", (each) => whole(each.spent), "number"],
        ["share", (each) => percent(each.spent / kernel.cycles), "number"],
        ["issues", (each) => whole(each.issues), "number"],
        ["unit busy", (each) => whole(each.busy), "number"],
        ["cycles by cause", causesOf, "wide"],
      ],
      costly,
      `${kernel.name}: instructions by the cycles until they issue; a button opens one in the pipeline`,
    ),
  );
}

/** The streams of the kernel, where it has several, and the first of them. */
function showStreams() {
  stream = 0;
  byId("stream").replaceChildren(...kernel.streams.map((clusters, value) => make("option", { value, text: `${value}: ${clusters}` })));
  byId("stream").parentElement.hidden = kernel.all_streams === 1;
}

function startTimeline() {
  byId("timeline").hidden = byId("cycles").hidden = !kernel;
  if (!kernel) return;
  byId("kernel").append(...report.kernels.map((each, value) => make("option", { value, text: each.name })));
  byId("kernel").addEventListener("change", (event) => {
    kernel = report.kernels[Number(event.target.value)];
    showStreams();
    showTimeline();
    showCostliest();
  });
  byId("stream").addEventListener("change", (event) => {
    stream = Number(event.target.value);
    showTimeline();
  });
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(button.dataset.zoom)));
  document.addEventListener("selection", () => {
    timelineView?.signal("chosen", chosenInstructions()).runAsync();
    sayRange();
  });
  showStreams();
  showTimeline();
  showCauses();
  showUses();
  showCostliest();
}
