// The address of a moment of decoding: #task/problem/step, and where they are not the usual ones /point/left/right.
const route = (() => {
  "use strict";

  function parse(hash) {
    const parts = hash.replace(/^#/, "").split("/");
    if (parts.length < 3) return null;
    let words;
    try {
      words = parts.map(decodeURIComponent);
    } catch {
      return null; // not one of ours
    }
    const [task, problem, step, ...rest] = words;
    const known = samples.tasks[task];
    if (!known || !/^\d+$/.test(step)) return null;
    const [point, left, right] = rest.map(Number);
    const within = (value, things) => (Number.isInteger(value) && value >= 0 && value < things.length ? value : null);
    return {
      task, problem, step: Number(step), point: within(point, known.points),
      left: within(left, known.models), right: within(right, known.models),
    };
  }

  // The last three are left out where they are what a reader sees without them, and where they are not given.
  function format({ task, problem, step, point, left, right }, usual = {}) {
    const words = [task, problem, step];
    if (point !== usual.point || left !== usual.left || right !== usual.right) words.push(point, left, right);
    return `#${words.map(encodeURIComponent).join("/")}`;
  }

  return { parse, format };
})();
