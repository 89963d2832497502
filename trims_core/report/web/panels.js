// One side of the player: a model, its answer's canvas, how far it is; and what the colours of its tokens say.
const panels = (() => {
  "use strict";

  const VERDICTS = { right: ["✓", "right"], wrong: ["✗", "wrong"], timeout: ["?", "not graded"], error: ["?", "not graded"] };
  const COLOURINGS = { step: "reveal step", confidence: "confidence", entropy: "entropy", difficulty: "teacher difficulty",
    none: "nothing" };

  // What tokens can be coloured by; by difficulty only where a teacher was asked.
  function colouringsOf(problems) {
    const isScored = problems.some((problem) => problem.answers.some((answer) => answer.difficulty));
    return Object.entries(COLOURINGS).filter(([name]) => name !== "difficulty" || isScored);
  }

  function mark(verdict) {
    const [sign, word] = VERDICTS[verdict] ?? ["–", "not decoded"];
    return dom.make("span", { class: `mark ${verdict}`, role: "img", "aria-label": word, title: word }, sign);
  }

  // about: what holds for all problems of the task.
  function make(answer, { model, method }, about) {
    const made = canvas.make(answer, about);
    const count = dom.make("p", { class: "faint" });
    const bar = dom.make("span", {});
    const never = about.gen_length - canvas.revealed(answer, answer.n_forwards);
    const facts = [`${answer.n_tokens} tokens in ${answer.n_forwards} forwards`, answer.finished ? null : "no end token",
      never ? `${never} of ${about.gen_length} positions never revealed` : null].filter((fact) => fact !== null);
    const element = dom.make("section", { class: "panel", "aria-label": text.plain(model) },
      dom.make("h3", {}, charts.glyph(data.shown.methods[method]), text.node(model), mark(answer.verdict),
        dom.make("span", { class: "found" }, text.node(answer.answer === null ? "no answer found" : `found ${text.plain(answer.answer, 60)}`))),
      dom.make("span", { class: "progress" }, bar), count, made.element, made.spoken,
      dom.make("p", { class: "faint" }, `${facts.join(", ")}.`));
    return { element, made, count, bar, answer, model };
  }

  function show({ made, count, bar, answer }, step, scale) {
    const done = Math.min(step, answer.n_forwards);
    canvas.show(made, done, scale ? scale.colourOf(answer) : () => null);
    const there = canvas.revealed(answer, done);
    count.textContent = `forward ${done} of ${answer.n_forwards}, ${there} revealed${done === answer.n_forwards ? ", done" : ""}`;
    bar.style.width = `${(100 * done) / answer.n_forwards}%`;
  }

  const say = ({ model, count, answer }) => `${text.plain(model)}: ${count.textContent}, ${VERDICTS[answer.verdict]?.[1] ?? ""}`;

  // From a box to its colour. Scales go from 0 to the largest value on the screen, confidence to 1.
  function scaleOf(name, answers) {
    if (name === "none") return null;
    const colours = data.shown.token_colours[name];
    const field = name === "step" ? "steps" : name;
    const largest = name === "confidence" ? 1000 : Math.max(1, ...answers.flatMap((answer) => answer[field] ?? []));
    const valueOf = (box, answer) => {
      const values = box.places.map((place) => answer[field]?.[place] ?? -1);
      return name === "confidence" ? Math.min(...values) : Math.max(...values);
    };
    const colourOf = (answer) => (box) => {
      const value = valueOf(box, answer);
      return value < 0 ? null : colours[Math.min(colours.length - 1, Math.floor((value / largest) * colours.length))];
    };
    return { colours, largest, colourOf };
  }

  function keyOf(name, scale) {
    if (!scale) return [];
    const nats = `${numbers.fixed(scale.largest / 1000, 1)} nats`;
    const [from, to] = { step: ["forward 1", `forward ${scale.largest + 1}`], confidence: ["0", "1"], entropy: ["0", nats],
      difficulty: ["0", nats] }[name];
    return [dom.make("span", {}, `${COLOURINGS[name]}: ${from}`), dom.make("span", { class: "ramp", "aria-hidden": "true" },
      scale.colours.map(([ground]) => dom.make("i", { style: `background:${ground}` }))), dom.make("span", {}, to)];
  }

  return { colouringsOf, mark, make, show, say, scaleOf, keyOf };
})();
