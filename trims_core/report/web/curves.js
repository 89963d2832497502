// Accuracy against parallelism: which methods, which seeds, along which axis; a point tells its cell.
const curves = (() => {
  "use strict";

  const AXES = {
    tpf: { field: "tpf", published: "tokens_per_forward", label: "tokens per forward (more parallel →)" },
    forwards: { field: "forwards_per_answer", published: null, label: "forwards per answer (← fewer is faster)" },
    speed: { field: "tokens_per_second", published: "tokens_per_second", label: "tokens per second (faster →)" },
  };
  const chosen = { axis: "tpf", seed: "mean", hidden: new Set(), cell: null };
  let task = null;
  let host = null;
  let card = null;

  const found = () => data.results.tasks[task];
  const pointText = (threshold) => data.shown.tasks[task].points.find(([one]) => one === threshold)[1];

  // The points of a method as drawn: means over seeds, or the cells of one seed.
  function pointsOf(method) {
    const axis = AXES[chosen.axis];
    const rows = chosen.seed === "mean" ? found().curves[method] : cellsOf(method, Number(chosen.seed));
    return rows.map((row) => ({
      method, row, x: row[axis.field], y: 100 * row.accuracy, low: 100 * row.low, high: 100 * row.high,
      threshold: row.threshold, says: sentenceOf(method, row),
    }));
  }

  // A seed's points of the curve, with the intervals of its cells. What was not trained has no seed.
  function cellsOf(method, seed) {
    const rows = [];
    for (const point of found().curves[method]) {
      const of = point.seeds.find((one) => one.seed === seed) ?? point.seeds.find((one) => one.seed === null);
      const cell = found().cells.find((one) =>
        one.method === method && one.threshold === point.threshold && of && one.seed === of.seed);
      if (cell) rows.push({ ...of, ...cell, n_seeds: 1, seeds: [of] });
    }
    return rows;
  }

  function sentenceOf(method, row) {
    return [
      `${method}, ${pointText(row.threshold)}`,
      `${numbers.interval(row)} right, n = ${row.n}${row.n_seeds > 1 ? `, mean of ${row.n_seeds} seeds` : ""}`,
      `${numbers.fixed(row.tpf, 2)} tokens per forward`,
      `${numbers.fixed(row.tokens_per_second, 0)} tokens/s, ${numbers.fixed(row.forwards_per_answer, 1)} forwards per answer`,
    ].join("\n");
  }

  const methods = () => Object.keys(found().curves);
  const visible = () => methods().filter((method) => !chosen.hidden.has(method));

  function published() {
    const field = AXES[chosen.axis].published;
    return found().protocol.published
      .filter((point) => field && point[field] !== null)
      .map((point) => ({
        x: point[field], y: point.accuracy, label: point.method,
        says: `published: ${point.method} (${point.model})\n${numbers.fixed(point.accuracy, 1)} % right\n`
          + `${point[field]} ${field.replaceAll("_", " ")}, ${point.hardware}\n${point.source}`,
      }));
  }

  function optionsOf(width) {
    const marks = charts.frame({ x: AXES[chosen.axis].label, y: "accuracy, %" });
    const all = [];
    const labels = [];
    for (const method of visible()) {
      const look = data.shown.methods[method];
      const points = pointsOf(method);
      marks.push(charts.line(points, look), charts.rings(points.filter((point) => point.threshold === null), look));
      all.push(...points);
      const last = points.at(-1);
      if (last) labels.push({ x: last.x, y: last.y, label: method, colour: look.colour });
    }
    const others = published();
    if (others.length) {
      marks.push(charts.dots(others, { symbol: "diamond", colour: "var(--faint)" }, { hollow: true, r: 5.5 }));
      labels.push(...others.map((point) => ({ ...point, colour: "var(--faint)" })));
    }
    const marked = all.filter((point) => chosen.cell && isSame(point, chosen.cell));
    if (marked.length) marks.push(Plot.dot(marked, { x: "x", y: "y", r: 11, stroke: "var(--ink)", strokeWidth: 1.5 }));
    marks.push(charts.endLabels(labels), charts.tip([...all, ...others]));
    return { marks, marginRight: width < 500 ? 24 : 90, x: { nice: true }, y: { nice: true } };
  }

  const isSame = (a, b) => a.method === b.method && a.threshold === b.threshold;

  function draw() {
    const alt = `${data.shown.tasks[task].alts.curve} The arrow keys go from cell to cell.`;
    charts.draw(host, alt, optionsOf, (point) => point?.row && tell(point));
  }

  // The chosen cell in full, with where it is from.
  function tell(point) {
    const lines = point.says.split("\n").map((line, number) => dom.make(number ? "div" : "strong", {}, text.node(line)));
    const models = found().cells
      .filter((cell) => cell.method === point.method && cell.threshold === point.threshold)
      .filter((cell) => point.row.seeds.some((of) => of.seed === cell.seed));
    const links = models.map((cell) => provenance.link(provenance.nodeOf("sweep", cell.model))).filter((link) => link !== null);
    card.replaceChildren(...lines, dom.make("div", { class: "faint" }, links.length ? "from " : "",
      links.flatMap((link, number) => (number ? [", ", link] : [link]))));
  }

  // Arrow keys: along a curve, and from curve to curve.
  function onKey(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const lines = visible().map(pointsOf).filter((points) => points.length);
    if (!(event.key in moves) || !lines.length) return;
    event.preventDefault();
    let row = lines.findIndex((points) => chosen.cell && points[0]?.method === chosen.cell.method);
    let column = row < 0 ? -1 : lines[row].findIndex((point) => isSame(point, chosen.cell));
    row = row < 0 ? 0 : (row + moves[event.key][0] + lines.length) % lines.length;
    column = Math.min(Math.max(column + moves[event.key][1], 0), lines[row].length - 1);
    chosen.cell = lines[row][column];
    tell(chosen.cell);
    draw();
  }

  function methodBox(method) {
    const mean = found().numbers[method].mean_over_range;
    const box = dom.make("input", { type: "checkbox", checked: !chosen.hidden.has(method), onchange: () => {
      chosen.hidden[box.checked ? "delete" : "add"](method);
      draw();
    } });
    const value = mean ? dom.make("span", { class: "value" }, `${numbers.percent(mean.value)} %`) : null;
    return dom.make("label", {}, box, charts.glyph(data.shown.methods[method]), text.node(method), value);
  }

  function controls() {
    const range = data.shown.tasks[task].range;
    const seeds = [...new Set(data.results.methods.flatMap((method) => method.seeds))];
    const redraw = (name) => (value) => {
      chosen[name] = value;
      draw();
    };
    return dom.make(
      "div",
      { class: "controls" },
      dom.make("fieldset", { class: "methods" }, dom.make("legend", {}, "Methods"), methods().map(methodBox),
        range ? dom.make("p", { class: "faint" }, `Mean accuracy over ${range} tokens per forward`) : null),
      dom.choice("Along", "axis", [["tpf", "tokens per forward"], ["forwards", "forwards"], ["speed", "tokens/s"]],
        chosen.axis, redraw("axis")),
      seeds.length > 1
        ? dom.menu("Seeds", [["mean", "mean of all"], ...seeds.map((seed) => [String(seed), `seed ${seed}`])],
          chosen.seed, redraw("seed"))
        : null,
      card,
    );
  }

  function show(name) {
    task = name;
    Object.assign(chosen, { cell: null, seed: "mean" });
    host = dom.make("div", { tabindex: "0", role: "group", "aria-label": "Curves: the arrow keys go from cell to cell",
      onkeydown: onKey });
    card = dom.make("div", { class: "card", "aria-live": "polite" },
      dom.make("span", { class: "faint" }, "Point at a cell, or go through them with the arrow keys."));
    const caption = `Accuracy with 95 % intervals over problems (Wilson), n = ${found().n}. `
      + "Ringed: one token per forward." + (found().protocol.published.length
      ? " Hollow, where the axis has them: published under the same profile, on other machines." : "");
    dom.fill("curves", dom.make("div", { class: "with-controls" },
      dom.make("figure", {}, host, dom.make("figcaption", {}, caption)), controls()),
    provenance.sources("curves"));
    draw();
  }

  return { show };
})();
