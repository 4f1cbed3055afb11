/* "How it went": how many hosts had which shade, minute by minute, stacked, by uPlot. */
"use strict";
(function (N) {
  let plot = null;
  let box = null;
  let drawn = "";

  /** Draw the chart into the place that the view has left for it, if it is not there already. */
  N.drawChart = function (anew) {
    const place = document.querySelector("[data-own='chart']");
    const samples = N.store.samples;
    if (!place || samples.length < 2 || !place.clientWidth) return;
    const width = place.clientWidth;
    const shown = `${samples.length} ${samples[samples.length - 1][0]} ${width}`;
    if (!anew && box === place && shown === drawn) return;
    if (plot && box === place && !anew) {
      if (plot.width !== width) plot.setSize({ width, height: plot.height });
      plot.setData(stacked(samples));
    } else {
      if (plot) plot.destroy();
      box = place;
      plot = made(place, width, stacked(samples));
    }
    drawn = shown;
    if (typeof plot.cursor.idx !== "number") readout();
  };

  /** A line for each shade, on top of all that are better: the areas between them are the counts.
      The highest comes first, and each covers the one before from its own line down. */
  function stacked(samples) {
    const shades = N.store.shades;
    const lines = shades.map((_, upTo) =>
      samples.map((one) => one.slice(1, upTo + 2).reduce((sum, value) => sum + value, 0)),
    );
    return [samples.map((one) => one[0]), ...lines.reverse()];
  }

  function made(place, width, data) {
    const shades = [...N.store.shades].reverse();
    const back = N.colourOf("back");
    const axis = { stroke: N.colourOf("text"), grid: { stroke: N.colourOf("soft"), width: 0.5 },
      ticks: { stroke: N.colourOf("soft"), width: 1 }, font: "12px system-ui, sans-serif" };
    return new uPlot({
      width, height: 220,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false },
      scales: { y: { range: (_, low, high) => [0, Math.max(1, high)] } },
      axes: [
        { ...axis, incrs: [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600],
          values: (_, at) => at.map((one) => N.clock(one).slice(-8, -3)) },
        { ...axis, size: 56, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] },
      ],
      series: [{}, ...shades.map((shade) => ({
        label: shade, stroke: back, width: 1, fill: fillOf(shade), points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }), // between two looks nobody knows
      }))],
      hooks: { setCursor: [(u) => readout(u.cursor.idx)] },
    }, data, place);
  }

  /** As on the maps: whoever is not registered is not a full area. */
  function fillOf(shade) {
    const colour = N.colourOf(shade);
    if (!["lost", "held", "away"].includes(shade)) return colour;
    const tile = N.el("canvas", { height: 6 });
    tile.width = 6;
    const pen = tile.getContext("2d");
    pen.fillStyle = N.colourOf("back");
    pen.fillRect(0, 0, 6, 6);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, shade === "held" ? 3 : 6, 2);
    return () => pen.createPattern(tile, "repeat");
  }

  function readout(at) {
    const line = document.getElementById("chart-says");
    if (line) line.textContent = N.sampleInWords(typeof at === "number" ? at : undefined);
  }

  /** One sample in words; without a number, the last one. */
  N.sampleInWords = function (at) {
    const samples = N.store.samples;
    const one = samples[at === undefined ? samples.length - 1 : at];
    if (!one) return "";
    const parts = N.store.shades
      .map((shade, number) => [one[number + 1], shade])
      .filter(([count]) => count > 0)
      .map(([count, shade]) => `${N.number(count)} ${shade}`);
    return parts.length ? `${N.clock(one[0]).slice(0, -3)}: ${parts.join(", ")}` : "";
  };
})(window.Neti);
