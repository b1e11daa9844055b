"use strict";
/* The head of the page, what is decomposed and why, the roofline, and configuration. */

const SITES = ["qkv", "o", "gate_up", "down"];
const layerWord = (layers) => `${layers.length === 1 ? "layer" : "layers"} ${ranges(layers)}`;
const modelName = report.model.model ?? report.file;

function showHead() {
  const layers = new Set(report.decompositions.map((each) => each.layer));
  const cycles = report.decompositions.reduce((sum, each) => sum + each.cycles, 0);
  const ranks = ranges(new Set(report.decompositions.map((each) => each.rank)));
  const machine = `${report.machine.name}, ${report.machine.grid.rows} × ${report.machine.grid.cols} clusters at ${report.machine.clock.hz / 1e9} GHz`;
  byId("title").textContent = modelName;
  byId("summary").append(...(layers.size ? story(layers, cycles, ranks) : ["No activation is decomposed."]));
  byId("where").textContent = `${report.file}, for ${machine}` + (layers.size ? `; a run of ${report.model.batch} × ${whole(report.model.seq_len)} tokens has ${count(report.decompositions.length, "decomposition")}.` : ".");
  showTiles(layers, cycles);
  const sections = [...document.querySelectorAll("main > section")].filter((section) => !section.hidden);
  byId("sections").append(
    ...sections.map((section) => make("li", {}, make("a", { href: `#${section.id}`, text: section.querySelector("h2").textContent }))),
  );
  byId("footer").textContent = `Made by dcomc ${report.version} from ${report.file}, SHA-256 ${report.sha256}.`;
}

const total = (name) => report.decompositions.reduce((sum, each) => sum + each[name], 0);
const programPerplexity = () => report.quality.find((each) => each.is_ratio)?.scores.find((score) => score.name === "program");
const variant = (name) => report.latency.find((each) => each.variant === name);
const times = (value) => `${Number(value.toPrecision(3))} times`;

/** What was decomposed, what it gains, and what it costs, in a sentence: texts, and numbers that stand out. */
function story(layers, cycles, ranks) {
  const strong = (text) => make("strong", { text });
  const parts = [
    "In ", strong(`${layers.size} of ${count(report.model.layers, "layer")}`), ` activations are decomposed at run time, to rank ${ranks}: their products take `,
    strong(`${times(total("dense_flops") / total("flops"))} fewer operations`), ", and finding the factors takes ",
    strong(duration(cycles / report.machine.clock.hz)), " on D-com",
  ];
  const [dense, dcom] = ["dense", "dcom"].map(variant);
  if (dense && dcom) parts.push(`; by estimate the model on ${dcom.host.replace(" x ", " × ")}, with ${count(dcom.batch, "prompt")}, takes `, strong(`${times(dcom.seconds / dense.seconds)} the dense time`));
  const score = programPerplexity();
  if (score) parts.push("; perplexity is ", strong(`${times(score.change)} the dense model’s`));
  return [...parts, "."];
}

function showTiles(layers, cycles) {
  const share = (name) => report.decompositions.reduce((sum, each) => sum + each.cycles * each[name], 0) / cycles;
  const tiles = [];
  if (layers.size) {
    const [dense, now] = [total("dense_flops"), total("flops")];
    tiles.push(["Decomposed layers", `${layers.size} of ${report.model.layers}`, ranges(layers)]);
    tiles.push(["Operations of these sites", `${(dense / now).toPrecision(3)} × fewer`, `${quantity(dense, "flop")} dense, ${quantity(now, "flop")} on factors`]);
    tiles.push(["To find the factors", duration(cycles / report.machine.clock.hz), `${quantity(cycles)} cycles on D-com, ${quantity(total("decomposition_flops"), "flop")}`]);
    const [array, bank] = [share("array_share"), share("bank_share")];
    tiles.push(["Busiest unit", `${bank > array ? "banks" : "arrays"} ${percent(Math.max(array, bank))}`, `arrays ${percent(array)}, banks ${percent(bank)} of all cycles`]);
  }
  const score = programPerplexity();
  const quality = report.quality.find((each) => each.is_ratio);
  if (score) tiles.push(["Perplexity", `${score.change.toFixed(3)} ×`, `${score.value.toFixed(2)} against ${quality.scores[0].value.toFixed(2)} dense`]);
  else if (layers.size && !report.quality.length) tiles.push(["Quality", "not measured", "dcomc run … --json FILE, then dcomc report … --result FILE"]);
  byId("overview").hidden = !tiles.length;
  byId("tiles").append(
    ...tiles.map(([name, value, note]) =>
      make("div", {}, make("dt", { text: name }), make("dd", {}, make("span", { class: "value", text: value }), make("span", { class: "note", text: note }))),
    ),
  );
}

function showDecompositions() {
  const names = { decomposed: "decomposed", projected: "on the basis of another site", dense: "dense" };
  const states = report.sites.map((each) => ({ ...each, state: names[each.state] }));
  const used = Object.values(names).filter((state) => states.some((each) => each.state === state));
  const colours = () => used.map((state) => ({ decomposed: colour("--c0"), dense: colour("--line") })[state] ?? colour("--c2"));
  const layers = new Set(states.filter((each) => each.state !== "dense").map((each) => each.layer));
  chart(
    byId("site-map"),
    `Sites of ${modelName} by layer: ${layers.size ? `decomposed in ${layerWord([...layers])}` : "all dense"}.`,
    (width) => ({
      data: { values: states },
      height: 22 * new Set(states.map((each) => each.site)).size,
      mark: { type: "rect", cornerRadius: 3, stroke: colour("--card"), strokeWidth: 2 },
      encoding: {
        x: { field: "layer", type: "ordinal", title: "layer", axis: { labelAngle: 0, labelOverlap: true, labelSeparation: 4, ticks: false, domain: false } },
        y: { field: "site", type: "nominal", sort: SITES, title: null, axis: { ticks: false, domain: false } },
        color: { field: "state", type: "nominal", scale: { domain: used, range: colours() }, legend: legendBelow(width) },
        tooltip: [{ field: "layer" }, { field: "site" }, { field: "state" }],
      },
    }),
    table(
      [["site", (group) => group[0].site], ["state", (group) => group[0].state], ["layers", (group) => ranges(group.map((each) => each.layer)), "wide"]],
      groupBy(states, (each) => `${each.site} ${each.state}`),
    ),
  );
  byId("chosen").hidden = !report.decompositions.length;
  byId("stops").hidden = !report.reasons.length;
  const alike = ({ layer, location, error, optimal_error, ...rest }) => JSON.stringify(rest) + location.replaceAll(`layers.${layer}.`, "*");
  const groups = groupBy(report.decompositions, alike);
  const spread = (group, name) => {
    const values = group.map((each) => each[name]).filter((value) => value !== null).sort((a, b) => a - b);
    const texts = [...new Set([values[0], values.at(-1)].map(fixed(4)))];
    return values.length ? texts.join("–") : "";
  };
  const measured = report.decompositions.some((each) => each.error !== null);
  const first = (name) => (group) => group[0][name];
  byId("decompositions").append(
    table(
      [
        ["layers", (group) => ranges(group.map((each) => each.layer)), "layers"],
        ["site", first("site")],
        ["matrices", ([each]) => `${each.matrices} of ${whole(each.rows)} × ${whole(each.cols)}`, "number"],
        ["rank", first("rank"), "number"],
        ["steps", first("iterations"), "number"],
        ["kept exact", first("exact"), "number"],
        ["dense", ([each]) => quantity(each.dense_flops, "flop"), "number"],
        ["on factors", ([each]) => quantity(each.flops, "flop"), "number"],
        ["fewer", ([each]) => `${(each.dense_flops / each.flops).toPrecision(3)} ×`, "number"],
        ["cycles", ([each]) => whole(each.cycles), "number"],
        ["time", ([each]) => duration(each.seconds), "number"],
        ["arrays", ([each]) => percent(each.array_share), "number"],
        ["banks", ([each]) => percent(each.bank_share), "number"],
        ...(measured ? [["error", (group) => spread(group, "error"), "number"], ["least", (group) => spread(group, "optimal_error"), "number"]] : []),
        ["kernel", first("kernel"), "code"],
      ],
      groups,
      `Each line is one decomposition in each of its layers${measured ? "; error: ‖X − U core V‖ / ‖X‖, least: of any matrix of that rank" : ""}.`,
    ),
  );
  byId("reasons").append(
    table(
      [
        ["layers", (reason) => ranges(reason.layers), "layers"],
        ["product", (reason) => reason.product.split(" ")[0], "code"],
        ["cost", (reason) => reason.chosen, "number"],
        ["the result is dense from here on because of", (reason) => reason.stopped, "wide"],
      ],
      report.reasons,
      `${count(report.reasons.length, "product")} that are reconstructed`,
    ),
  );
}

function showRoofline() {
  const { flops_per_second: peak, bytes_per_second: bandwidth, points } = report.roofline;
  byId("roofline").hidden = !points.length;
  if (!points.length) return;
  const shown = points.map((point) => {
    const intensity = point.flops / point.bytes;
    const reached = point.flops / point.seconds;
    const bound = Math.min(peak, bandwidth * intensity);
    return { ...point, intensity, reached, share: reached / bound, bound: bound < peak ? "banks" : "arrays", times: point.launches.length };
  });
  const ridge = peak / bandwidth;
  const intensities = [ridge, ...shown.map((each) => each.intensity)];
  const [low, high] = [Math.min(...intensities) / 4, Math.max(...intensities) * 4];
  const roof = [low, ridge, high].map((intensity) => ({ intensity, reached: Math.min(peak, bandwidth * intensity) }));
  const tooltip = [
    { field: "label", title: "decomposition" },
    { field: "times", title: "launches" },
    { field: "intensity", format: ".3s", title: "flop a byte" },
    { field: "reached", format: ".3s", title: "flop/s" },
    { field: "share", format: ".1%", title: "of the bound" },
  ];
  const axes = {
    x: { field: "intensity", type: "quantitative", scale: { type: "log", domain: [low, high], nice: false }, title: "flop for each byte of the banks", axis: { format: "~g", tickCount: 6 } },
    y: { field: "reached", type: "quantitative", scale: { type: "log", nice: true }, title: "flop/s", axis: { format: "~s", tickCount: 6 } },
  };
  chart(
    byId("roof"),
    `The roof is ${quantity(peak, "flop/s")} of the multipliers and ${quantity(bandwidth, "B/s")} of the banks. ` +
      (shown.length < 4
        ? shown.map((each) => `${each.label}: ${percent(each.share)} of the bound of the ${each.bound}`).join("; ")
        : `Decompositions reach ${percent(Math.min(...shown.map((each) => each.share)))} to ${percent(Math.max(...shown.map((each) => each.share)))} of their bound`) + ".",
    (width) => ({
      height: 300,
      layer: [
        { data: { values: roof }, mark: { type: "line", color: colour("--soft"), strokeWidth: 2 }, encoding: axes },
        ...[["banks", roof[0], "left", 6, -26], ["multipliers", roof[2], "right", -6, -6]].map(([text, at, align, dx, dy]) => ({
          data: { values: [{ ...at, text }] },
          mark: { type: "text", align, baseline: "bottom", dx, dy, color: colour("--soft") },
          encoding: { ...axes, text: { field: "text" } },
        })),
        {
          data: { values: shown },
          mark: { type: "point", filled: false, size: 160, strokeWidth: 2.5, opacity: 1 },
          encoding: { ...axes, color: { field: "label", type: "nominal", sort: null, legend: legendBelow(width) }, shape: { field: "label", type: "nominal", sort: null, legend: legendBelow(width) }, tooltip },
        },
      ],
    }),
    table(
      [
        ["decomposition", (each) => each.label],
        ["launches", (each) => whole(each.times), "number"],
        ["flop a byte", (each) => each.intensity.toPrecision(3), "number"],
        ["reached", (each) => quantity(each.reached, "flop/s"), "number"],
        ["of the bound", (each) => percent(each.share), "number"],
        ["bound by", (each) => each.bound],
      ],
      shown,
    ),
  );
}

function showExpansion() {
  byId("expansion").hidden = !report.expansion.length;
  for (const { kernel: name, cycles, points, refused } of report.expansion) {
    if (!points.length) {
      byId("sweeps").append(make("p", { text: `${name}: ${refused}.` }));
      continue;
    }
    const best = points.reduce((least, point) => (point.cycles < least.cycles ? point : least));
    const figure = make("figure");
    byId("sweeps").append(figure);
    chart(
      figure,
      `${name}: ${whole(best.cycles)} cycles at best, by f = ${best.factor} in the ${best.vectors}; the program’s own takes ${whole(cycles)}.`,
      (width) => ({
        height: 240,
        layer: [
          {
            data: { values: points },
            mark: { type: "line", point: { size: 60 } },
            encoding: {
              x: { field: "factor", type: "quantitative", scale: { type: "log", base: 2, nice: false }, title: "expansion factor f", axis: { grid: false } },
              y: { field: "cycles", type: "quantitative", title: "cycles", scale: { zero: true }, axis: { format: ",d", tickCount: 5 } },
              color: { field: "vectors", type: "nominal", sort: null, legend: legendBelow(width) },
              tooltip: [{ field: "vectors" }, { field: "factor" }, { field: "cycles", format: "," }, { field: "reorthogonalisation", format: "," }],
            },
          },
          { data: { values: [{ cycles }] }, mark: { type: "rule", color: colour("--soft"), strokeDash: [6, 4] }, encoding: { y: { field: "cycles", type: "quantitative" } } },
        ],
      }),
      table(
        [
          ["vectors in", (point) => point.vectors],
          ["f", (point) => point.factor, "number"],
          ["cycles", (point) => whole(point.cycles), "number"],
          ["of reorthogonalisation alone", (point) => whole(point.reorthogonalisation), "number"],
        ],
        points,
      ),
    );
  }
}

function showConfiguration() {
  const text = (value) => {
    if (typeof value === "number" && Number.isInteger(value)) return whole(value);
    if (value === null || value.length === 0) return "none";
    if (Array.isArray(value)) return value.every(Number.isInteger) ? ranges(value) : value.join(", ");
    return typeof value === "string" ? value : JSON.stringify(value);
  };
  const pairs = (values, caption) => table([["option", ([name]) => name], ["value", ([, value]) => text(value)]], Object.entries(values), caption);
  const { name, ...parts } = report.machine;
  const machine = Object.fromEntries(
    Object.entries(parts).flatMap(([part, values]) => Object.entries(values).map(([key, value]) => [`${part}.${key}`, value])),
  );
  const { model, ...options } = report.options;
  const traced = Object.fromEntries(Object.entries(report.model).map(([key, value]) => [`traced ${key}`, value]));
  byId("settings").append(
    make("div", {}, make("h3", { text: "Model and compiler" }), pairs({ ...traced, ...options }, "What was traced, and what the compiler was asked for")),
    make("div", {}, make("h3", { text: "Machine" }), pairs(machine, `${name}, hash ${report.machine_hash}`)),
  );
  byId("file").append(
    table(
      [
        ["section", (section) => section.name, "code"],
        ["bytes", (section) => whole(section.bytes), "number"],
        ["holds", (section) => section.what, "wide"],
        ["SHA-256", (section) => section.sha256, "code"],
      ],
      report.sections,
      `${report.file}, format ${report.format}, ${whole(report.bytes)} bytes, SHA-256 ${report.sha256}`,
    ),
  );
}
