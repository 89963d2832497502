// Why methods decode as they do: trajectories under the teacher, order, calibration, what changed.
const analysis = (() => {
  "use strict";

  const KINDS = { revealed: "tokens revealed so far", filled: "masks filled with the student's proposals" };
  const chosen = { along: "by_share", kind: "revealed" };

  const lookOf = (method) => data.shown.methods[method];

  function show(task) {
    const found = data.results.tasks[task].analysis;
    if (!found) {
      dom.fill("analysis", dom.make("p", { class: "faint" }, data.results.ablations
        ? "The arms of an ablation are not analysed; trims run with an arm's values does that."
        : "There is no analysis: none was made (analysis: null), or there is nothing at the point that it looks at."));
      return;
    }
    const point = data.shown.tasks[task].points.find(([threshold]) => threshold === found.threshold);
    const at = point ? point[1] : `${found.rule} ${found.threshold}`;
    const ready = data.shown.tasks[task].tables;
    const part = (title, lead, ...content) => [dom.make("h3", {}, title), dom.make("p", { class: "lead" }, lead), content];
    dom.fill("analysis",
      part("Trajectories under the teacher", "How likely the teacher finds the text while it appears: nats per token, the lower"
        + " the likelier.", trajectories(found, at)),
      part("In which order tokens appear", "Rank correlations of a token's reveal step: with its position (1: left to right), with"
        + " its difficulty for the teacher (below 0: hard ones first), with the student's confidence.", order.show(found, at, ready)),
      part("Is the confidence deserved?", "How often a token is the one that decoding one token per forward gives, and an answer is"
        + " right, by the confidence of the student.", calibration(found, at, ready)),
      tables.make(ready.analysis),
      part("What changed", "Problems that one method answers right and the other does not.", changed(task, found)),
      provenance.sources("analysis"));
  }

  function trajectories(found, at) {
    if (!Object.keys(found.trajectories).length) {
      const why = found.without_teacher ? `: ${text.plain(found.without_teacher)}` : "";
      return dom.make("p", { class: "faint" }, `No teacher was asked${why}.`);
    }
    const host = dom.make("div");
    const draw = () => charts.draw(host, `Mean negative log-likelihood under the teacher of the ${KINDS[chosen.kind]}.`, options);
    const options = () => {
      const lines = Object.entries(found.trajectories).map(([method, curves]) => [method, pointsOf(method, curves[chosen.along])]);
      return {
        marks: [
          charts.frame({ x: chosen.along === "by_share" ? "share of tokens revealed" : "forwards", y: "nats per token" }),
          lines.map(([method, points]) => charts.line(points, lookOf(method), { marks: false })),
          charts.endLabels(ends(lines)), charts.tip(lines.flatMap(([, points]) => points)),
        ],
        marginRight: 90, y: { nice: true },
      };
    };
    const redraw = (name) => (value) => {
      chosen[name] = value;
      draw();
    };
    draw();
    return dom.make("div", { class: "with-controls" },
      dom.make("figure", {}, host, dom.make("figcaption", {}, "Mean and 95 % interval, teacher ", text.node(found.teacher ?? "–"),
        `; n = ${found.n} problems at ${at}.`)),
      dom.make("div", { class: "controls" },
        dom.choice("Of", "trajectory-kind", Object.entries(KINDS), chosen.kind, redraw("kind")),
        dom.choice("Along", "trajectory-along", [["by_share", "share revealed"], ["by_step", "forwards"]], chosen.along,
          redraw("along"))));
  }

  function pointsOf(method, rows) {
    const [nats, low, high] = ["nats", "low", "high"].map((end) => `${chosen.kind}_${end}`);
    const at = chosen.along === "by_share" ? "share revealed" : "forwards";
    return rows.filter((row) => row[nats] !== null).map((row) => ({ x: row.x, y: row[nats], low: row[low], high: row[high],
      says: `${method}, ${at} ${row.x}\n${numbers.fixed(row[nats], 3)} nats`
        + (row[low] === null ? "" : ` [${numbers.fixed(row[low], 3)}, ${numbers.fixed(row[high], 3)}]`) }));
  }

  const ends = (lines) => lines.filter(([, points]) => points.length)
    .map(([method, points]) => ({ ...points.at(-1), label: method, colour: lookOf(method).colour }));

  function calibration(found, at, ready) {
    const methods = Object.entries(found.calibration);
    return [
      reliability(methods, { x: "confidence at reveal", y: "share that agrees", of: "tokens" },
        `Tokens. Dotted: perfectly calibrated. At ${at}.`),
      reliability(methods.map(([method, of]) => [method, of.answers]), { x: "mean confidence of its tokens", y: "share right",
        of: "answers" }, `Whole answers, against what is right. At ${at}.`),
      tables.make(ready.calibration),
      ready["calibration-by-bucket"] ? dom.details("By bucket of the teacher's difficulty", tables.make(ready["calibration-by-bucket"])) : null];
  }

  const said = (ece) => (ece === null ? "–" : numbers.fixed(ece, 3));

  // What came true, by confidence: a point per bin.
  function reliability(methods, names, caption) {
    const lines = methods.map(([method, { bins }]) => [method, bins.filter((bin) => bin.n).map((bin) => ({
      x: bin.confidence, y: bin.agreement,
      says: `${method}, confidence ${bin.low} to ${bin.high}\nmean ${numbers.fixed(bin.confidence, 3)}, ${names.y} `
        + `${numbers.fixed(bin.agreement, 3)}\n${bin.n} ${names.of}`,
    }))]);
    const label = `Calibration of ${names.of}. ${methods.map(([method, { ece }]) => `${method}: ECE ${said(ece)}`).join("; ")}`;
    const host = charts.draw(dom.make("div"), label, () => ({
      marks: [charts.frame(names),
        Plot.line([[0, 0], [1, 1]], { stroke: "var(--faint)", strokeDasharray: "2 4" }),
        lines.map(([method, points]) => charts.line(points, lookOf(method))), charts.endLabels(ends(lines)),
        charts.tip(lines.flatMap(([, points]) => points))],
      marginRight: 90, x: { domain: [0, 1] }, y: { domain: [0, 1] },
    }));
    return dom.make("figure", { class: "narrow" }, host, dom.make("figcaption", {}, caption));
  }

  // Which problems became right or wrong between two methods, each a link into the player where it has them.
  function changed(task, found) {
    const known = samples.tasks[task];
    const played = new Set((known?.problems ?? []).map((one) => one.id));
    const name = (id) => text.node(text.plain(id, 40));
    const link = (id, place) => (place && (played.has(id) || data.isServed)
      ? dom.make("a", { href: route.format({ task, problem: id, step: 0, ...place }) }, name(id)) : name(id));
    const listed = (ids, place) => (ids.length ? ids.flatMap((id, n) => [n ? ", " : "", link(id, place)]) : "none");
    const listsOf = (pair) => {
      const place = known ? placeOf(known, found.threshold, pair) : null;
      return dom.details(
        `${pair.a} against ${pair.b}${pair.seed === null ? "" : `, seed ${pair.seed}`}: ${pair.became_right.length} became right,`
          + ` ${pair.became_wrong.length} became wrong, of ${pair.n}`,
        dom.make("p", {}, "Became right: ", listed(pair.became_right, place)),
        dom.make("p", {}, "Became wrong: ", listed(pair.became_wrong, place)));
    };
    return [found.changed.map(listsOf), played.size && !data.isServed ? dom.make("p", { class: "faint" },
      `Links lead to the ${played.size} problems that this page plays, of each method's first seed; trims view --serve plays them all.`) : null];
  }

  // Both models of a pair in the player, at the point that was looked at; null where it does not play these answers.
  function placeOf({ models, points }, threshold, { a, b, seed }) {
    const point = points.findIndex((one) => one.threshold === threshold);
    const [left, right] = [b, a].map((method) => models.findIndex(({ model }) => [method, `${method}-s${seed}`].includes(model)));
    return point >= 0 && left >= 0 && right >= 0 ? { point, left, right } : null;
  }

  return { show };
})();
