// One answer's canvas: a box per piece of text, masked until the forward that reveals it.
const canvas = (() => {
  "use strict";

  const MASK = "▒";
  const SPECIAL = /^<[|｜][^<>]{1,40}[|｜]>$/; // an end token or the like
  const UNTIL = 4000; // letters of a piece that are drawn

  // Positions that share a character are one box. last: the step at which all of it is there.
  function boxesOf(answer) {
    const boxes = [];
    let start = 0;
    answer.pieces.forEach((piece, place) => {
      if (piece === null) return;
      const places = d3.range(start, place + 1);
      const steps = places.map((one) => answer.steps[one]);
      boxes.push({ piece, places, last: steps.includes(-1) ? Infinity : Math.max(...steps), start });
      start = place + 1;
    });
    return boxes;
  }

  function make(answer, { block_length: block }) {
    const boxes = boxesOf(answer).map((box) => ({ ...box, element: elementOf(box, answer, block) }));
    const element = dom.make("div", { class: "canvas", "aria-hidden": "true" }, boxes.map((box) => box.element));
    const spoken = dom.make("p", { class: "spoken" });
    return { element, spoken, boxes, answer };
  }

  function elementOf(box, answer, block) {
    const isEnd = SPECIAL.test(box.piece) || box.piece === "";
    const isBehind = answer.finished && box.start >= answer.n_tokens - 1;
    const element = dom.make("span", { class: "box" });
    if (isEnd || isBehind) element.classList.add("behind");
    if (box.start && box.start % block === 0) element.classList.add("block-start");
    const shown = isEnd ? dom.make("span", {}, "∎") : text.node(box.piece.slice(0, UNTIL), "span");
    element.title = text.plain(isEnd ? box.piece : titleOf(box, answer));
    element.shown = shown;
    element.masks = MASK.repeat(Math.min(12, Math.max(1, [...shown.textContent].length)));
    return element;
  }

  function titleOf({ places, last }, answer) {
    const of = (values) => places.map((place) => values[place]).filter((value) => value >= 0);
    const confidence = of(answer.confidence).map((value) => numbers.fixed(value / 1000, 3));
    const entropy = of(answer.entropy).map((value) => numbers.fixed(value / 1000, 3));
    if (last === Infinity) return "never revealed";
    const says = [`forward ${last + 1}`, `confidence ${confidence.join(", ")}`, `entropy ${entropy.join(", ")} nats`];
    const nats = answer.difficulty ? of(answer.difficulty) : [];
    if (nats.length) says.push(`teacher ${nats.map((value) => numbers.fixed(value / 1000, 2)).join(", ")} nats`);
    return says.join("; ");
  }

  // Shows the canvas after `step` forwards. colourOf: box → [background, ink], or null.
  function show(made, step, colourOf) {
    const spoken = [];
    for (const box of made.boxes) {
      const { element } = box;
      const isThere = box.last < step;
      element.classList.toggle("masked", !isThere);
      element.classList.toggle("fresh", isThere && box.last === step - 1);
      const colours = isThere ? colourOf(box) : null;
      element.style.background = colours ? colours[0] : "";
      element.style.color = colours ? colours[1] : "";
      if (isThere) element.replaceChildren(element.shown);
      else element.textContent = element.masks;
      if (isThere) spoken.push(box.piece);
      else if (spoken.at(-1) !== null) spoken.push(null);
    }
    made.spoken.replaceChildren(text.node(spoken.map((piece) => piece ?? " [masked] ").join("")));
  }

  // How many positions are there after `step` forwards.
  const revealed = (answer, step) => answer.steps.filter((one) => one >= 0 && one < step).length;

  return { make, show, revealed };
})();
