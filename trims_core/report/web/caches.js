// The untuned student with every cache, against its speed; and the cells of all models.
const caches = (() => {
  "use strict";

  function show(task) {
    const found = data.results.tasks[task];
    const ready = data.shown.tasks[task].tables;
    const names = Object.keys(found.caches);
    dom.fill("caches", names.length ? [chart(task, found, names), tables.make(ready.caches), provenance.sources("caches")] : null);
    const further = ["graders", "countings", "one-at-a-time"].filter((name) => ready[name]).map((name) => tables.make(ready[name]));
    dom.fill("cells", dom.details(`${found.cells.length} cells`, tables.make(ready.cells), further), provenance.sources("cells"));
  }

  function chart(task, found, names) {
    const lines = names.map((name) => [name, found.caches[name].map((row) => ({
      x: row.tokens_per_second, y: 100 * row.accuracy, low: 100 * row.low, high: 100 * row.high, threshold: row.threshold,
      says: `cache ${name}, ${data.shown.tasks[task].points.find(([one]) => one === row.threshold)[1]}\n`
        + `${numbers.interval(row)} right, n = ${row.n}\n${numbers.fixed(row.tokens_per_second, 0)} tokens/s`,
    }))]);
    const look = (name) => data.shown.caches[name];
    const host = charts.draw(dom.make("div"), data.shown.tasks[task].alts.caches, () => ({
      marks: [charts.frame({ x: "tokens per second (faster →)", y: "accuracy, %" }),
        lines.map(([name, points]) => [charts.line(points, look(name)),
          charts.rings(points.filter((point) => point.threshold === null), look(name))]),
        charts.endLabels(lines.map(([name, points]) => ({ ...points.at(-1), label: name, colour: look(name).colour }))),
        charts.tip(lines.flatMap(([, points]) => points))],
      x: { zero: true, nice: true }, y: { nice: true }, marginRight: 60,
    }));
    return dom.make("figure", {}, host, dom.make("figcaption", {},
      "One point per threshold, ringed at one token per forward. Up is better, right is faster on this machine. Bands are Wilson"
        + " 95 % intervals over problems. none and exact are exact, prefix and dual approximate."));
  }

  return { show };
})();
