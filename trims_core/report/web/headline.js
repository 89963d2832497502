// The verdict in three sentences, and everything that limits the numbers.
const headline = (() => {
  "use strict";

  const LABELS = { accuracy: "Accuracy at equal parallelism", speed: "Speed at equal accuracy", limit: "What limits them" };

  function show(task) {
    const { headlines, limits } = data.shown.tasks[task];
    const cards = Object.entries(headlines).map(([name, said]) => dom.make("div", { class: "verdict" },
      dom.make("h3", {}, LABELS[name]), dom.make("p", { class: "words" }, text.node(said.words)),
      dom.make("p", {}, text.node(said.sentence)), said.more ? dom.make("p", { class: "faint" }, text.node(said.more)) : null,
      name === "limit" ? others(limits.slice(1)) : null));
    dom.fill("headline", dom.make("div", { class: "verdicts" }, cards));
  }

  function others(lines) {
    if (!lines.length) return null;
    const word = lines.length === 1 ? "limit" : "limits";
    return dom.details(`${lines.length} more ${word}`, dom.make("ul", {}, lines.map((line) => dom.make("li", {}, text.node(line)))));
  }

  return { show };
})();
