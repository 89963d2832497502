// Why the curves look as they do: trajectories under the teacher, order, calibration.
const analysis = (() => {
  "use strict";

  const MEASURES = { position: "with position", difficulty: "with the teacher's difficulty", confidence: "with confidence" };
  const KINDS = { revealed: "tokens revealed so far", filled: "masks filled with the student's proposals" };
  const chosen = { along: "by_share", kind: "revealed" };

  const lookOf = (method) => data.shown.methods[method];

  function show(task) {
    const found = data.results.tasks[task].analysis;
    if (!found) {
      dom.fill("analysis", dom.make("p", { class: "faint" }, "This run was not analysed: its settings have no section analysis."));
      return;
    }
    const about = `n = ${found.n}, at ${pointOf(task, found)}.`;
    const part = (title, lead, ...content) => [dom.make("h3", {}, title), dom.make("p", { class: "lead" }, lead), content];
    dom.fill("analysis",
      part("Trajectories under the teacher", "How likely the teacher finds the text while it appears: nats per token, the lower"
        + " the likelier.", trajectories(found, about)),
      part("In which order tokens appear", "Rank correlations of a token's reveal step: with its position (1: left to right), with"
        + " its difficulty for the teacher (below 0: hard ones first), with the student's confidence.", order(found, about)),
      part("Is the confidence deserved?", "How often a token is the one that decoding one token per forward gives, by the"
        + " confidence with which it was revealed.", calibration(found, about)),
      part("What changed", "Problems that one method answers right and the other does not.", changed(task, found)),
      provenance.sources("analysis"));
  }

  function pointOf(task, found) {
    const point = data.shown.tasks[task].points.find(([threshold]) => threshold === found.threshold);
    return point ? point[1] : `${found.rule} ${found.threshold}`;
  }

  function trajectories(found, about) {
    if (!Object.keys(found.trajectories).length) {
      return dom.make("p", { class: "faint" }, "No teacher was asked about these trajectories.");
    }
    const host = dom.make("div");
    const options = () => {
      const { along, kind } = chosen;
      const lines = Object.entries(found.trajectories).map(([method, curve]) => [method, curve[along]
        .filter((row) => row[`${kind}_nats`] !== null)
        .map((row) => ({ x: row.x, y: row[`${kind}_nats`], low: row[`${kind}_low`], high: row[`${kind}_high`],
          says: `${method}\n${along === "by_share" ? "share revealed" : "forward"} ${row.x}\n`
            + `${row[`${kind}_nats`].toFixed(3)} nats [${row[`${kind}_low`]?.toFixed(3)}, ${row[`${kind}_high`]?.toFixed(3)}]` }))]);
      return {
        marks: [
          charts.frame({ x: along === "by_share" ? "share of positions revealed" : "forward", y: "nats per token" }),
          lines.map(([method, points]) => charts.line(points, lookOf(method), { marks: points.length < 40 })),
          charts.endLabels(ends(lines)), charts.tip(lines.flatMap(([, points]) => points)),
        ],
        marginRight: 90, y: { nice: true },
      };
    };
    const redraw = (name) => (value) => {
      chosen[name] = value;
      charts.draw(host, `Mean negative log-likelihood under the teacher of the ${KINDS[chosen.kind]}.`, options);
    };
    redraw("along")(chosen.along);
    return dom.make("div", { class: "with-controls" },
      dom.make("figure", {}, host, dom.make("figcaption", {},
        `Mean and 95 % interval over problems, teacher ${text.plain(found.teacher ?? "–")}; ${about}`)),
      dom.make("div", { class: "controls" },
        dom.choice("Of", "trajectory-kind", Object.entries(KINDS), chosen.kind, redraw("kind")),
        dom.choice("Along", "trajectory-along", [["by_share", "share revealed"], ["by_step", "forwards"]], chosen.along,
          redraw("along"))));
  }

  const ends = (lines) => lines.filter(([, points]) => points.length)
    .map(([method, points]) => ({ ...points.at(-1), label: method, colour: lookOf(method).colour }));

  // A row per method, a panel per measure: the mean and its interval.
  function order(found, about) {
    const methods = Object.keys(found.order);
    const rows = methods.flatMap((method) => Object.entries(MEASURES)
      .filter(([name]) => found.order[method][name])
      .map(([name, label]) => ({ method, label, ...found.order[method][name] })));
    const says = (row) => `${row.method}, ${row.label}\n${row.mean.toFixed(3)} [${row.low.toFixed(3)}, ${row.high.toFixed(3)}], n = ${row.n}`;
    const host = charts.draw(dom.make("div"), `Rank correlations of the reveal step: ${rows.map(says).join("; ")}`, (width) => ({
      height: 60 + 30 * methods.length * (width < 560 ? 3 : 1),
      marginLeft: 110, marginTop: 40,
      facet: { data: rows, [width < 560 ? "y" : "x"]: "label", marginRight: width < 560 ? 120 : 20 },
      fx: { label: null, domain: Object.values(MEASURES) }, fy: { label: null, domain: Object.values(MEASURES) },
      x: { domain: [-1, 1], label: null, ticks: [-1, -0.5, 0, 0.5, 1], grid: true },
      y: { type: "band", domain: methods, label: null, tickSize: 0 },
      marks: [
        Plot.ruleX([0], { stroke: "var(--faint)" }),
        Plot.ruleY(rows, { x1: "low", x2: "high", y: "method", stroke: (row) => lookOf(row.method).colour, strokeWidth: 2 }),
        Plot.dot(rows, { x: "mean", y: "method", fill: (row) => lookOf(row.method).colour, r: 4.5,
          symbol: (row) => lookOf(row.method).symbol }),
        Plot.tip(rows, Plot.pointer({ x: "mean", y: "method", title: says, fill: "var(--ground)", stroke: "var(--faint)" })),
      ],
      symbol: { type: "identity" }, color: { type: "identity" },
    }));
    return dom.make("figure", {}, host, dom.make("figcaption", {}, `Spearman's ρ, mean and 95 % interval over problems; ${about}`),
      departures(found));
  }

  function departures(found) {
    const rows = Object.entries(found.order).map(([method, { departure }]) => [method, departure])
      .filter(([, departure]) => departure)
      .map(([method, of]) => [method, String(of.n_wrong), String(of.n_departed), stat(of.step_share), stat(of.confidence)]);
    return rows.length ? tables.make({
      caption: "Where wrong answers first leave what one token per forward gives: after which share of the steps, with which"
        + " confidence",
      header: ["method", "wrong answers", "that depart", "share of the steps", "confidence"], rows,
    }) : null;
  }

  const stat = (found) => (found ? `${found.mean.toFixed(2)} [${found.low.toFixed(2)}, ${found.high.toFixed(2)}]` : "–");

  // Which problems became right or wrong between two methods, each a link into the player where it has them.
  function changed(task, found) {
    const isPlayed = new Set(samples.tasks[task]?.problems.map((one) => one.id));
    const link = (id) => (isPlayed.has(id) || (data.isServed && samples.tasks[task])
      ? dom.make("a", { href: `#${[task, id, 0].map(encodeURIComponent).join("/")}` }, text.node(text.plain(id, 40)))
      : text.node(text.plain(id, 40)));
    const listed = (ids) => (ids.length ? ids.flatMap((id, place) => (place ? [", ", link(id)] : [link(id)])) : "none");
    return found.changed.map((pair) => dom.details(
      `${pair.a} against ${pair.b}${pair.seed === null ? "" : `, seed ${pair.seed}`}: ${pair.became_right.length} became right,`
        + ` ${pair.became_wrong.length} became wrong, of ${pair.n}`,
      dom.make("p", {}, "Became right: ", listed(pair.became_right)), dom.make("p", {}, "Became wrong: ", listed(pair.became_wrong))));
  }

  function calibration(found, about) {
    const methods = Object.entries(found.calibration);
    const points = methods.flatMap(([method, of]) => of.bins.filter((bin) => bin.n).map((bin) => ({
      method, x: bin.confidence, y: bin.agreement, n: bin.n,
      says: `${method}, confidence ${bin.low} to ${bin.high}\nagreement ${bin.agreement.toFixed(3)}, confidence `
        + `${bin.confidence.toFixed(3)}\n${bin.n} tokens`,
    })));
    const lines = methods.map(([method]) => [method, points.filter((point) => point.method === method)]);
    const label = `Agreement against confidence. ${methods.map(([method, of]) => `${method}: ECE ${of.ece.toFixed(3)}`).join("; ")}`;
    const host = charts.draw(dom.make("div"), label, () => ({
      marks: [charts.frame({ x: "confidence at reveal", y: "agreement" }),
        Plot.line([[0, 0], [1, 1]], { stroke: "var(--faint)", strokeDasharray: "2 4" }),
        lines.map(([method, of]) => charts.line(of, lookOf(method))), charts.endLabels(ends(lines)), charts.tip(points)],
      marginRight: 90, x: { domain: [0, 1] }, y: { domain: [0, 1] },
    }));
    const rows = methods.map(([method, of]) => [method, of.ece.toFixed(3), String(of.n_tokens), of.answers ? of.answers.ece.toFixed(3) : "–"]);
    return [dom.make("figure", {}, host, dom.make("figcaption", {}, `Dotted: perfectly calibrated. ${about}`)),
      tables.make({ caption: "Expected calibration error (ECE), of tokens and of whole answers",
        header: ["method", "ECE of tokens", "tokens", "ECE of answers"], rows }), byBucket(methods)];
  }

  function byBucket(methods) {
    const rows = methods.flatMap(([method, of]) => (of.by_bucket ?? []).map((row) =>
      [`${method}, bucket ${row.bucket}`, String(row.n), row.confidence.toFixed(3), row.agreement.toFixed(3)]));
    return rows.length ? dom.details("By bucket of the teacher's difficulty", tables.make({
      caption: "Confidence and agreement by bucket (1 = hardest)", header: ["method, bucket", "tokens", "confidence", "agreement"],
      rows })) : null;
  }

  return { show };
})();
