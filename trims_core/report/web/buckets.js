// The difficulty histogram, and examples whose tokens carry the colour of their bucket.
const buckets = (() => {
  "use strict";

  function show() {
    const found = data.results.buckets;
    const title = document.getElementById("buckets-title");
    if (!found) title.textContent = "What the student is trained on";
    dom.fill("buckets", found ? histogram(found) : null, data.results.examples.length ? examples(found) : null,
      provenance.sources(found ? "buckets" : "examples"));
  }

  // Bars of all buckets on each other; what lies below the first bin, zeros among it, is one bar at the left end.
  function histogram(found) {
    const { edges_nats: edges, counts_per_bucket: counts, n_below_per_bucket: below } = found.bins;
    const ratio = edges[1] / edges[0];
    const bars = counts.flatMap((row, bucket) => [
      { bucket, n: below[bucket], x1: edges[0] / ratio ** 4, x2: edges[0] / ratio ** 2, at: "exactly 0, or below the first bin" },
      ...row.map((n, bin) => ({ bucket, n, x1: edges[bin], x2: edges[bin + 1],
        at: `${edges[bin].toPrecision(2)} to ${edges[bin + 1].toPrecision(2)} nats` })),
    ]).filter((bar) => bar.n);
    const colour = (bar) => data.shown.bucket_colours[bar.bucket][0];
    const unit = found.metric === "nll" ? "−log p of the teacher" : "the entropy of the teacher";
    const host = charts.draw(dom.make("div"), data.shown.alts.difficulty, (width) => ({
      height: 300,
      marks: [
        charts.frame({ x: "difficulty, nats (logarithmic)", y: "tokens", xTicks: { ticks: width < 500 ? 4 : 8, tickFormat: powerOf } }),
        Plot.rectY(bars, { x1: "x1", x2: "x2", y: "n", fill: colour, insetLeft: 0.5, insetRight: 0.5 }),
        Plot.ruleX(found.edges_nats.filter((edge) => edge >= edges[0]), { stroke: "var(--ink)", strokeOpacity: 0.55,
          strokeDasharray: "2 3" }),
        Plot.tip(bars, Plot.pointerX(Plot.stackY({ x: (bar) => Math.sqrt(bar.x1 * bar.x2), y: "n", fill: "var(--ground)",
          stroke: "var(--faint)", title: (bar) => `bucket ${bar.bucket + 1}\n${bar.n} tokens\n${bar.at}` }))),
      ],
      x: { type: "log" }, y: { nice: true }, marginLeft: 52, color: { type: "identity" },
    }));
    return dom.make("figure", {}, host, dom.make("figcaption", {},
      `Difficulty is ${unit}, which scores every answer token once; quantiles over all tokens make the buckets (dashed: their edges). In`
        + " descending order TRIMS shows the hard ones to the student first."), key());
  }

  // `10⁻⁴`, `0.1`.
  function powerOf(nats) {
    const power = Math.round(Math.log10(nats));
    if (power >= -2) return String(nats);
    return `10⁻${String(-power).replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`;
  }

  function key() {
    const all = data.shown.bucket_colours;
    return dom.make("p", { class: "key" }, "Bucket", all.map(([ground, ink], bucket) => dom.make("span",
      { class: "bucket", style: `background:${ground};color:${ink}` },
      `${bucket + 1}${bucket === 0 ? " hardest" : bucket === all.length - 1 ? " easiest" : ""}`)));
  }

  function examples(found) {
    const shown = data.results.examples.map((example) => [
      dom.make("p", { class: "prompt" }, text.node(example.prompt)),
      dom.make("div", { class: "tokens" }, example.pieces.map((piece) => (found ? coloured(piece) : text.node(piece.text, "span")))),
    ]);
    return [shown.slice(0, 2), shown.length > 2 ? dom.details(`${shown.length - 2} more examples`, shown.slice(2)) : null];
  }

  function coloured(piece) {
    const [ground, ink] = data.shown.bucket_colours[piece.bucket - 1];
    const element = text.node(piece.text, "span");
    element.style.background = ground;
    element.style.color = ink;
    element.title = `bucket ${piece.bucket}, ${piece.difficulty_nats.toPrecision(3)} nats`
      + (piece.n_tokens > 1 ? `, ${piece.n_tokens} tokens` : "");
    return element;
  }

  return { show };
})();
