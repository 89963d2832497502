// What each value of each setting is worth: the difference to the base, with its interval, and the table.
const ablations = (() => {
  "use strict";

  function show(task) {
    const found = data.results.ablations;
    const table = data.shown.tasks[task].tables.ablations;
    dom.fill("ablations", found ? [chart(found.rows, task), table ? tables.make(table) : null, provenance.sources("ablations")] : null);
  }

  // A row per value, a group per factor. Filled: told apart from the base.
  function chart(all, task) {
    const rows = all.map((row) => ({ ...row, name: `${row.value}${row.is_base ? " (base)" : ""}`,
      ...interval(row.tasks[task].difference) }));
    const drawn = rows.filter((row) => row.x !== null);
    const factors = [...new Set(rows.map((row) => row.factor))];
    const apart = (row) => !["not told apart", "no shared range"].includes(row.tasks[task].verdict);
    const { n } = data.results.tasks[task];
    const { where } = data.shown.tasks[task];
    const seeds = Math.max(0, ...rows.map((row) => Object.keys(row.tasks[task].difference?.by_seed ?? {}).length));
    const look = { stroke: "var(--accent)", strokeWidth: 2 };
    const says = (row) => `${row.factor}: ${row.value}\n${numbers.signed(row.x, 1)} [${numbers.signed(row.low, 1)}, ${numbers.signed(row.high, 1)}] points\n`
      + row.tasks[task].verdict;
    const host = charts.draw(dom.make("div"), `Differences to the base. ${drawn.map(says).join("; ")}`, (width) => ({
      height: 80 + 26 * rows.length + 30 * factors.length, marginLeft: width < 500 ? 90 : 150, marginTop: 40,
      x: { label: null, grid: true, nice: true }, y: { type: "band", label: null, tickSize: 0 },
      fy: { axis: null, domain: factors, padding: 0.25 },
      marks: [
        charts.groupNames(factors, "fy"),
        Plot.ruleX([0], { stroke: "var(--faint)" }),
        Plot.ruleY(drawn, { fy: "factor", y: "name", x1: "low", x2: "high", ...look }),
        Plot.dot(drawn, { fy: "factor", y: "name", x: "x", r: 5, fill: (row) => (apart(row) ? "var(--accent)" : "var(--ground)"), ...look }),
        Plot.text(rows.filter((row) => row.is_base), { fy: "factor", y: "name", x: 0, text: () => "base", fill: "var(--faint)", dx: 18 }),
        Plot.tip(drawn, Plot.pointerY({ fy: "factor", y: "name", x: "x", title: says, fill: "var(--ground)", stroke: "var(--faint)" })),
      ],
      color: { type: "identity" },
    }));
    return dom.make("figure", {}, host, dom.make("figcaption", {},
      `Difference to the base in points of accuracy, ${where}; n = ${n} problems, seeds`
        + ` per value: ${seeds}. Each with its own 95 % interval over seeds and problems (over problems where there is one seed). Filled:`
        + " told apart from the base, with several seeds after Holm's correction over all of the table's tests."));
  }

  // In points, over seeds and problems where there is such an interval.
  function interval(difference) {
    if (!difference) return { x: null };
    const { low, high } = difference.over_seeds_and_problems ?? difference.over_problems;
    return { x: 100 * difference.value, low: 100 * low, high: 100 * high };
  }

  return { show };
})();
