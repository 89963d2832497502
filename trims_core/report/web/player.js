// Two models on one problem, forward by forward.
const player = (() => {
  "use strict";

  const SPEEDS = [[1, "1 forward/s"], [3, "3 forwards/s"], [6, "6 forwards/s"], [12, "12 forwards/s"]];
  const now = { task: null, problem: null, step: 0, point: 0, left: 0, right: 0, colouring: "step", speed: 3 };
  const parts = {};
  let usual = {};
  let rows = [];
  let problem = null;
  let sides = [];
  let timer = null;
  let asked = 0; // how often a problem was asked for: the last one counts, whichever comes first

  const known = () => samples.tasks[now.task];
  const answers = () => [now.left, now.right].map((model) => samples.answerOf(problem, model, now.point));
  const longest = () => Math.max(...answers().map((answer) => answer.n_forwards));

  // Untuned, or the first model, against the method that leads the page, at the point of the answers' table.
  function usualOf(task) {
    const { models, points } = samples.tasks[task];
    const pair = data.results.tasks[task].comparisons[0];
    const indexOf = (method) => models.findIndex((model) => model.method === method);
    const right = Math.max(pair ? indexOf(pair.a) : models.length - 1, 0);
    const left = right === 0 ? models.length - 1 : 0;
    return { left, right, point: Math.min(1, points.length - 1) };
  }

  async function show(task, place = null) {
    stop();
    const known = samples.tasks[task];
    if (!known) return say("The methods were decoded at no common point, so that nothing can be played side by side.");
    if (!known.problems.length && !data.isServed) {
      return say("No problem is small enough to lie in this page (report.player, report.player_mb).");
    }
    if (now.task !== task) {
      try {
        rows = await samples.list(task);
      } catch (error) {
        return say(`The list of problems cannot be had: ${error.message}`);
      }
      usual = usualOf(task);
      problem = null;
      now.task = task;
      build();
    }
    for (const name of ["point", "left", "right"]) {
      now[name] = place?.[name] ?? usual[name];
      parts[name].querySelector("select").value = now[name];
    }
    return turnTo(place?.problem ?? first(), place?.step);
  }

  const first = () => known().problems[0]?.id ?? rows[0].id;

  function say(why) {
    now.task = null;
    dom.fill("player", dom.make("p", { class: "faint" }, text.node(why)));
  }

  // Where a problem cannot be had, the one that is shown stays.
  async function turnTo(id, step = null) {
    const turn = (asked += 1);
    let next = null;
    let why = `There is no problem ${text.plain(id)} here.`;
    try {
      if (rows.some((row) => row.id === id)) next = await samples.problem(now.task, id);
    } catch (error) {
      why = `The problem cannot be had: ${error.message}`;
    }
    if (turn !== asked) return;
    parts.message.textContent = next ? "" : why;
    if (!next) {
      if (!problem && id !== first()) await turnTo(first()).then(() => (parts.message.textContent = why));
      return;
    }
    problem = next;
    now.problem = id;
    draw();
    move(step ?? Math.ceil(Math.min(...answers().map((answer) => answer.n_forwards)) / 2));
  }

  function build() {
    const { points, models } = known();
    const colourings = panels.colouringsOf(known().problems);
    if (!colourings.some(([name]) => name === now.colouring)) now.colouring = "step";
    const shownModels = models.map((model, index) => [index, model.model]);
    const button = (icon, title, onclick) =>
      dom.make("button", { type: "button", title, "aria-label": title, onclick }, dom.icon(icon));
    parts.play = button("play", "Play", toggle);
    parts.slider = dom.make("input", { type: "range", min: 0, value: 0, "aria-label": "Forwards", oninput: () => {
      stop();
      move(Number(parts.slider.value));
    } });
    parts.count = dom.make("output", { class: "count" });
    parts.status = dom.make("p", { class: "spoken", "aria-live": "polite" });
    parts.message = dom.make("p", { class: "faint", role: "status" });
    parts.list = dom.make("ol", { class: "problems", tabindex: "0", "aria-label": "Problems" });
    parts.prompt = dom.make("div", { class: "prompt", tabindex: "0", role: "region", "aria-label": "Prompt" });
    parts.panels = dom.make("div", { class: "panels" });
    parts.key = dom.make("div", { class: "key" });
    parts.link = dom.make("a", { class: "permalink" }, "Link to this moment");
    parts.left = dom.menu("Left", shownModels, usual.left, choose("left"));
    parts.right = dom.menu("Right", shownModels, usual.right, choose("right"));
    parts.point = dom.menu("At", points.map((point, index) => [index, point.text]), usual.point, choose("point"));
    const menus = dom.make("div", { class: "menus" }, parts.left, parts.right, parts.point,
      dom.menu("Colour by", colourings, now.colouring, (value) => {
        now.colouring = value;
        move(now.step);
      }));
    const transport = dom.make("div", { class: "transport" },
      button("start", "Back to the start", () => seek(0)), button("back", "One forward back", () => seek(now.step - 1)), parts.play,
      button("on", "One forward on", () => seek(now.step + 1)), button("end", "To the end", () => seek(Infinity)),
      parts.slider, parts.count,
      dom.menu("Speed", SPEEDS, now.speed, (value) => {
        now.speed = Number(value);
        if (timer) play();
      }));
    const shown = data.samples.problems_shown < data.samples.problems_wanted && !data.isServed
      ? `The first ${data.samples.problems_shown} of ${data.samples.problems_wanted} problems: more would make this page`
        + " larger (report.player_mb); trims view --serve shows all." : null;
    const side = dom.make("div", { class: "side" }, parts.list,
      dom.make("button", { type: "button", title: "Next problem where one is right and the other is not",
        onclick: nextDifference }, "Next where they differ"), parts.message);
    const frame = dom.make("div", { class: "player", tabindex: "0", role: "group",
      "aria-label": "Player: space plays and pauses, the left and right arrows go one forward, n goes to the next problem "
        + "where the two differ", onkeydown: onKey },
    menus, dom.make("div", { class: "stage" }, side,
      dom.make("div", { class: "screen" }, parts.prompt, transport, parts.panels, parts.key, parts.link)), parts.status);
    dom.fill("player", frame, shown ? dom.make("p", { class: "faint" }, shown) : null, provenance.sources("player"));
  }

  const choose = (name) => (value) => {
    stop();
    now[name] = Number(value);
    draw();
    move(now.step);
  };

  // Everything that is the same at all steps.
  function draw() {
    parts.list.replaceChildren(...rows.map((row) => {
      const current = row.id === now.problem;
      const marks = [now.left, now.right].map((model) => panels.mark(samples.verdictOf(row, model, now.point)));
      const address = route.format({ ...now, problem: row.id, step: 0 }, usual);
      return dom.make("li", {}, dom.make("a", { href: address, "aria-current": current ? "true" : null },
        dom.make("span", { class: "id" }, text.node(text.plain(row.id, 40))), marks));
    }));
    const current = parts.list.querySelector("[aria-current]");
    if (current) parts.list.scrollTop = current.offsetTop - parts.list.offsetTop - parts.list.clientHeight / 2;
    parts.prompt.replaceChildren(text.node(problem.prompt), dom.make("span", { class: "gold" }, " Right: ",
      text.node(problem.gold ?? "–")));
    parts.slider.max = longest();
    sides = answers().map((answer, place) => panels.make(answer, known().models[place ? now.right : now.left], known()));
    parts.panels.replaceChildren(...sides.map((side) => side.element));
  }

  // Shows the canvas after so many forwards.
  function move(step) {
    now.step = Math.max(0, Math.min(longest(), step));
    const scale = panels.scaleOf(now.colouring, answers());
    for (const side of sides) panels.show(side, now.step, scale);
    parts.key.replaceChildren(...panels.keyOf(now.colouring, scale));
    parts.slider.value = now.step;
    parts.count.textContent = `${now.step} of ${longest()} forwards`;
    parts.link.href = route.format(now, usual);
    if (!timer) parts.status.textContent = sides.map(panels.say).join("; ");
  }

  // As move, by the reader: the address follows.
  function seek(step) {
    stop();
    move(step);
    history.replaceState(null, "", route.format(now, usual));
  }

  function play() {
    stop();
    if (now.step >= longest()) move(0);
    timer = setInterval(() => {
      move(now.step + 1);
      if (now.step >= longest()) seek(now.step);
    }, 1000 / now.speed);
    label();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    label();
  }

  function label() {
    if (!parts.play) return;
    parts.play.replaceChildren(dom.icon(timer ? "pause" : "play"));
    parts.play.setAttribute("aria-label", timer ? "Pause" : "Play");
  }

  function toggle() {
    if (timer) seek(now.step);
    else play();
  }

  function nextDifference() {
    const start = rows.findIndex((row) => row.id === now.problem);
    const ring = [...rows.slice(start + 1), ...rows.slice(0, start + 1)];
    const isRight = (row, model) => samples.verdictOf(row, model, now.point) === "right";
    const next = ring.find((row) => row.id !== now.problem && isRight(row, now.left) !== isRight(row, now.right));
    if (!next) {
      parts.message.textContent = "There is no other problem where one is right and the other is not.";
      return Promise.resolve();
    }
    stop();
    return turnTo(next.id).then(() => seek(now.step));
  }

  function onKey(event) {
    const { target, key } = event;
    if (event.altKey || event.ctrlKey || event.metaKey || target.matches("select, input")) return;
    const isControl = target.matches("button, a");
    if (key === " " && !isControl) toggle();
    else if (key === "ArrowRight") seek(now.step + 1);
    else if (key === "ArrowLeft") seek(now.step - 1);
    else if (key === "Home") seek(0);
    else if (key === "End") seek(Infinity);
    else if (key === "n") nextDifference();
    else return;
    event.preventDefault();
  }

  return { show };
})();
