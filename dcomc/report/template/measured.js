"use strict";
/* What was measured or estimated of the program: latency on a host, and quality. */

function showLatency() {
  byId("latency").hidden = !report.latency.length;
  const names = { dense: "dense", gpu: "decomposed on a GPU", dcom: "with D-com" };
  for (const group of groupBy(report.latency, (each) => each.source)) {
    const shown = group.map((each) => ({ ...each, name: names[each.variant], over: each.seconds / group[0].seconds }));
    const figure = make("figure");
    byId("times").append(figure);
    chart(
      figure,
      `The model on ${shown[0].host.replace(" x ", " × ")}, ${count(shown[0].batch, "prompt")}, by estimate (${shown[0].source}); lines span the ranges of what is assumed.`,
      () => ({
        data: { values: shown },
        height: 34 * shown.length,
        encoding: { y: { field: "name", type: "nominal", sort: null, title: null } },
        layer: [
          {
            mark: { type: "bar", cornerRadiusEnd: 3, height: 18 },
            encoding: {
              x: { field: "seconds", type: "quantitative", title: "seconds", axis: { tickCount: 5 } },
              color: { condition: { test: "datum.variant === 'dcom'", value: colour("--c0") }, value: colour("--c8") },
              tooltip: [{ field: "name" }, { field: "seconds", format: ".3s" }, { field: "fastest", format: ".3s" }, { field: "slowest", format: ".3s" }],
            },
          },
          { mark: { type: "rule", color: colour("--ink") }, encoding: { x: { field: "fastest", type: "quantitative" }, x2: { field: "slowest" } } },
        ],
      }),
      table(
        [
          ["variant", (each) => each.name],
          ["time", (each) => duration(each.seconds), "number"],
          ["fastest", (each) => duration(each.fastest), "number"],
          ["slowest", (each) => duration(each.slowest), "number"],
          ["over dense", (each) => fixed(3)(each.over), "number"],
        ],
        shown,
      ),
    );
  }
}

function showQuality() {
  byId("quality").hidden = !report.quality.length;
  for (const quality of report.quality) {
    const figure = make("figure");
    byId("metrics").append(figure);
    const lower = quality.is_ratio ? "lower is better" : "higher is better";
    const against = quality.is_ratio ? "ratio to dense" : "difference to dense";
    chart(
      figure,
      `${quality.metric} on ${quality.about}, ${lower} (${quality.source}).`,
      () => ({
        data: { values: quality.scores },
        height: 30 * quality.scores.length,
        encoding: { y: { field: "name", type: "nominal", sort: null, title: null }, x: { field: "value", type: "quantitative", title: quality.metric, axis: { tickCount: 5 } } },
        layer: [
          {
            mark: { type: "bar", cornerRadiusEnd: 3, height: 18 },
            encoding: {
              color: { condition: { test: "datum.name === 'program'", value: colour("--c0") }, value: colour("--c8") },
              tooltip: [{ field: "name" }, { field: "about" }, { field: "value", format: ".4f" }],
            },
          },
          { mark: { type: "text", align: "left", dx: 5 }, encoding: { text: { field: "value", format: ".3f" } } },
        ],
      }),
      table(
        [
          ["model", (score) => score.name],
          [quality.metric, (score) => fixed(3)(score.value), "number"],
          [against, (score) => fixed(3)(score.change), "number"],
          ["95% interval", (score) => (score.low === null ? "" : `${score.low.toFixed(3)} to ${score.high.toFixed(3)}`), "number"],
          ["what it is", (score) => score.about, "wide"],
        ],
        quality.scores,
      ),
    );
  }
}
