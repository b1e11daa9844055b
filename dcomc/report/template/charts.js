"use strict";
/* Charts by Vega-Lite: each in a figure with a caption and a table of the same values, drawn anew when colours change. */

const charts = [];
const COLOURS = 13;
const dark = matchMedia("(prefers-color-scheme: dark)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colours = (number) => Array.from({ length: number }, (_, index) => colour(`--c${index % COLOURS}`));

function theme() {
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map(colour);
  const font = getComputedStyle(document.body).fontFamily;
  return {
    background: "transparent",
    font,
    view: { stroke: null },
    range: { category: colours(COLOURS) },
    axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 220 },
    legend: { labelColor: ink, titleColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", symbolType: "square", labelLimit: 260 },
    text: { color: ink },
  };
}

/** Fill a figure. `spec` makes the Vega-Lite specification for a width in pixels; `then` is called with each new view. */
async function chart(figure, caption, spec, alternative, options = {}) {
  const place = make("div", { class: "chart", role: "img", "aria-label": caption });
  const details = make("details", {}, make("summary", { text: "The same as a table" }), alternative);
  figure.replaceChildren(make("figcaption", { text: caption }), place, details);
  alternative.querySelector(".scroll").setAttribute("aria-label", `${caption} As a table`);
  const entry = { place, caption, spec, options };
  const earlier = charts.findIndex((other) => !other.place.isConnected);
  if (earlier >= 0) charts.splice(earlier, 1);
  charts.push(entry);
  await draw(entry);
}

async function draw(entry) {
  const width = entry.place.clientWidth;
  entry.width = width;
  const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", description: entry.caption, width: "container", autosize: { type: "fit-x", contains: "padding" }, ...entry.spec(width), config: theme() };
  const result = await vegaEmbed(entry.place, spec, { actions: false, ast: true, renderer: entry.options.renderer ?? "svg", tooltip: { theme: dark.matches ? "dark" : "light" } });
  entry.view = result.view;
  entry.options.then?.(result.view);
}

dark.addEventListener("change", () => charts.forEach(draw));
addEventListener("resize", () => charts.forEach((entry) => entry.place.clientWidth !== entry.width && draw(entry)));

const legendBelow = (width) => ({ orient: "bottom", direction: "horizontal", columns: Math.max(1, Math.floor(width / 190)), title: null });

/** An axis of kernels by name; where it is narrow, without what all names begin with. */
const kernelAxis = (width, options = {}) => ({ labelLimit: width < 600 ? 100 : 260, ...(width < 600 ? { labelExpr: "replace(datum.label, /^lanczos_/, '')" } : {}), ...options });
