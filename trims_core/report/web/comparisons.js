// Every pair of methods in a sentence, what the intervals mean, and the tables; the same problems as all answered them.
const comparisons = (() => {
  "use strict";

  const NAMES = ["methods", "differences", "mcnemar", "points", "published"];

  function show(task) {
    const { sentences, tables: ready, decoding } = data.shown.tasks[task];
    dom.fill("comparisons",
      sentences.length ? dom.make("ul", {}, sentences.map((line) => dom.make("li", {}, text.node(line)))) : null,
      dom.make("p", { class: "faint" }, `${data.shown.intervals.join(" ")} AUP is the weighted area under a curve up to a cut five`
        + " points below its start, which makes it jump; it stands last."),
      dom.make("p", { class: "faint" }, text.node(decoding)),
      NAMES.filter((name) => ready[name]).map((name) => tables.make(ready[name])), provenance.sources("comparisons"));
    answers(task);
  }

  function answers(task) {
    const { problems } = data.results.tasks[task].answers;
    if (!problems.length) return dom.fill("answers");
    const shown = problems.map((problem) => [
      dom.make("p", { class: "prompt" }, text.node(problem.prompt), dom.make("span", { class: "gold" }, " Right: ",
        text.node(problem.gold ?? "–"))),
      dom.make("div", { class: "answers" }, problem.answers.map(answerOf)),
    ]);
    return dom.fill("answers", dom.details(`All methods on ${problems.length} problems, at ${data.shown.tasks[task].answers_at}`,
      dom.make("p", { class: "faint" }, "Chosen by a hash of their ids, not by outcome."), shown));
  }

  function answerOf(answer) {
    const [sign, word] = answer.correct ? ["right", "✓ right"]
      : answer.verdict === "wrong" ? ["wrong", "✗ wrong"] : ["", "? not graded"];
    return dom.make("div", { class: "answer" }, dom.make("strong", {}, text.node(answer.model)), " ",
      dom.make("span", { class: sign }, word), " ",
      dom.make("span", { class: "faint" }, `${answer.n_tokens} tokens, ${answer.n_forwards} forwards`
        + (answer.finished ? "" : ", no end token")),
      dom.make("p", {}, text.node(answer.text)));
  }

  return { show };
})();
