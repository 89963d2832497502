// In which order tokens appear: rank correlations, shares per forward, lengths of runs, where wrong answers leave.
const order = (() => {
  "use strict";

  const MEASURES = { position: "with position", difficulty: "with the teacher's difficulty", confidence: "with confidence" };
  const lookOf = (method) => data.shown.methods[method];

  // Args: ready: the task's tables.
  function show(found, at, ready) {
    return [correlations(found, at), tables.make(ready.departures),
      dom.details("How much each forward reveals, and how adjacent it is", shares(found), runs(found))];
  }

  // A row per method, a panel per measure: the mean and its interval.
  function correlations(found, at) {
    const methods = Object.keys(found.order);
    const rows = methods.flatMap((method) => Object.entries(MEASURES)
      .filter(([name]) => found.order[method][name])
      .map(([name, measure]) => ({ method, measure, ...found.order[method][name] })));
    const says = (row) => `${row.method}, ${row.measure}\n${numbers.fixed(row.mean, 3)} [${numbers.fixed(row.low, 3)}, ${numbers.fixed(row.high, 3)}],`
      + ` n = ${row.n}`;
    const host = charts.draw(dom.make("div"), `Rank correlations of the reveal step. ${rows.map(says).join("; ")}`, (width) => {
      const side = width < 560 ? "fy" : "fx"; // below each other where it is narrow
      const measures = { axis: null, domain: Object.values(MEASURES), padding: side === "fy" ? 0.3 : 0.12 };
      return {
        height: 66 + (side === "fy" ? 3 : 1) * (26 * methods.length + 34),
        marginLeft: 90, marginTop: 34, marginRight: 20, [side]: measures,
        x: { domain: [-1, 1], label: null, ticks: [-1, 0, 1], grid: true },
        y: { type: "band", domain: methods, label: null, tickSize: 0 },
        marks: [
          charts.groupNames(measures.domain, side),
          Plot.ruleX([0], { stroke: "var(--faint)" }),
          methods.map((method) => {
            const own = rows.filter((row) => row.method === method);
            const { colour, symbol } = lookOf(method);
            return [Plot.ruleY(own, { [side]: "measure", x1: "low", x2: "high", y: "method", stroke: colour, strokeWidth: 2 }),
              Plot.dot(own, { [side]: "measure", x: "mean", y: "method", fill: colour, stroke: colour, symbol, r: 4.5 })];
          }),
          Plot.tip(rows, Plot.pointer({ [side]: "measure", x: "mean", y: "method", title: says, fill: "var(--ground)",
            stroke: "var(--faint)" })),
        ],
      };
    });
    return dom.make("figure", {}, host, dom.make("figcaption", {},
      `Spearman's ρ of an answer, mean over answers with its 95 % interval; at ${at}.`));
  }

  function shares(found) {
    const lines = Object.entries(found.order).map(([method, of]) => [method, of.revealed_per_step.map((share, step) => ({
      x: step + 1, y: share, says: `${method}, forward ${step + 1}\n${share} of the answer's tokens` }))]);
    return drawn(lines, "Share of an answer's tokens that each forward reveals.", "forward", "share revealed");
  }

  function runs(found) {
    const answersOf = (method) => found.calibration[method].answers.n;
    const lines = Object.entries(found.order).map(([method, of]) => [method, of.run_lengths.map(([length, n]) => ({
      x: length, y: n / answersOf(method), says: `${method}\n${numbers.fixed(n / answersOf(method), 3)} runs of ${length} per answer` }))]);
    return drawn(lines, "How many runs of adjacent positions that one forward reveals an answer has, by their length.", "length of a run",
      "runs per answer");
  }

  function drawn(lines, label, x, y) {
    const host = charts.draw(dom.make("div"), label, () => ({
      height: 260, marginRight: 90, marginLeft: 52,
      marks: [charts.frame({ x, y }), lines.map(([method, points]) => charts.line(points, lookOf(method), { marks: points.length < 40 })),
        charts.tip(lines.flatMap(([, points]) => points))],
    }));
    return dom.make("figure", {}, host, dom.make("figcaption", {}, label));
  }

  return { show };
})();
