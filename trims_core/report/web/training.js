// What training did: losses and their parts, the share that was masked, rewards of rounds; and what it took.
const training = (() => {
  "use strict";

  let chosen = "train";

  const losses = () => Object.entries(data.results.losses);

  // What can be drawn: name → label.
  function views() {
    const out = { train: "training loss", eval: "validation loss" };
    const parts = new Set(losses().flatMap(([, entry]) => Object.keys(entry.parts)));
    if (parts.size > 1) for (const part of parts) out[`part ${part}`] = `its part “${part}”`;
    out.masked = "share masked";
    return Object.fromEntries(Object.entries(out).filter(([view]) => losses().some(([, entry]) => valuesOf(entry, view).length)));
  }

  function valuesOf(entry, view) {
    if (view === "masked") return entry.masked_share;
    return (view.startsWith("part ") ? entry.parts[view.slice(5)] : entry[view]) ?? [];
  }

  function show() {
    dom.fill("training", losses().length ? curves() : null, rounds(), provenance.sources("training"));
    dom.fill("cost", tables.make(data.shown.tables.costs), tables.make(data.shown.tables["published-costs"]), dom.details("Every stage", tables.make(data.shown.tables.stages)), provenance.sources("costs"));
  }

  function curves() {
    const host = dom.make("div");
    const all = views();
    if (!(chosen in all)) [chosen] = Object.keys(all);
    const draw = () => charts.draw(host, `${all[chosen]} by optimizer step. ${data.shown.alts.losses}`, options(all[chosen]));
    draw();
    const choose = (value) => {
      chosen = value;
      draw();
    };
    return dom.make("div", { class: "with-controls" },
      dom.make("figure", {}, host, dom.make("figcaption", {},
        "One line per seed. Methods draw other masks and weight them differently, so the heights of their training losses cannot"
          + " be compared.")),
      dom.make("div", { class: "controls" }, dom.choice("Show", "loss", Object.entries(all), chosen, choose)));
  }

  const options = (label) => () => {
    const lines = losses().map(([model, entry]) => [model, entry.method, valuesOf(entry, chosen).map(([step, value]) => ({
      x: step, y: value, says: `${model}, step ${step}\n${value}` }))]).filter(([, , points]) => points.length);
    const ends = lines.map(([model, method, points]) => [method, chosen === "train"
      ? { ...points.at(-1), y: data.results.losses[model].smoothed.at(-1)[1] } : points.at(-1)]);
    const labelled = new Map(ends);
    const isShare = chosen === "masked";
    return {
      marks: [charts.frame({ x: "optimizer step", y: isShare ? label : `${label}, nats per supervised token` }),
        lines.map(([model, method, points]) => lineOf(model, { ...data.shown.methods[method], dashed: false }, points)),
        charts.endLabels([...labelled].map(([method, end]) => ({ ...end, label: method,
          colour: data.shown.methods[method].colour }))),
        charts.tip(lines.flatMap(([, , points]) => points))],
      marginRight: 90, marginLeft: 52, y: { nice: true },
    };
  };

  // The training loss as logged is faint behind its smoothed line.
  function lineOf(model, look, points) {
    const { smoothed } = data.results.losses[model];
    if (chosen !== "train") return charts.line(points, look, { marks: points.length < 20 });
    return [Plot.line(points, { x: "x", y: "y", stroke: look.colour, strokeWidth: 0.8, strokeOpacity: 0.3 }),
      charts.line(smoothed.map(([x, y]) => ({ x, y })), look, { marks: false })];
  }

  function rounds() {
    const rows = data.results.rounds.filter((row) => row.reward !== null);
    if (!data.shown.tables.rounds) return null;
    const variants = [...new Set(rows.map((row) => row.variant))];
    const lines = variants.map((variant) => [variant, rows.filter((row) => row.variant === variant).map((row) => ({
      x: row.round, y: row.reward, says: `${variant}, round ${row.round}\nmean reward ${row.reward}` }))]);
    const host = charts.draw(dom.make("div"), "Mean reward of the rollouts of each round.", () => ({
      height: 280,
      marks: [charts.frame({ x: "round", y: "mean reward", xTicks: { interval: 1, tickFormat: "d" } }),
        lines.map(([variant, points]) => charts.line(points, data.shown.methods[variant])),
        charts.endLabels(lines.map(([variant, points]) => ({ ...points.at(-1), label: variant,
          colour: data.shown.methods[variant].colour }))),
        charts.tip(lines.flatMap(([, points]) => points))],
      marginRight: 90,
    }));
    return [dom.make("h3", {}, "Rounds of reinforcement"), rows.length ? dom.make("figure", {}, host) : null,
      tables.make(data.shown.tables.rounds)];
  }

  return { show };
})();
