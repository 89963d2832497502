// The page as a whole: one task at a time, addresses, the list of sections, printing.
(() => {
  "use strict";

  const tasks = Object.keys(data.results.tasks);
  let shown = null;

  // Sections of the run as a whole are drawn once, those of a task whenever it is chosen.
  async function showTask(task, place = null) {
    shown = task;
    document.getElementById("task").value = task;
    headline.show(task);
    curves.show(task);
    comparisons.show(task);
    analysis.show(task);
    caches.show(task);
    ablations.show(task);
    await player.show(task, place);
    listSections();
  }

  function listSections() {
    const sections = [...document.querySelectorAll("main > section")].filter((section) => !section.hidden);
    document.getElementById("nav").replaceChildren(...sections.map((section) => {
      const title = section.querySelector("h2").textContent;
      return dom.make("li", {}, dom.make("a", { href: `#${section.id}` }, section.dataset.short ?? title));
    }));
  }

  function menu() {
    const select = document.getElementById("task");
    select.append(...tasks.map((task) => dom.make("option", { value: task }, text.plain(task))));
    select.addEventListener("change", () => showTask(select.value));
    document.getElementById("task-choice").hidden = tasks.length < 2;
  }

  // An address leads to a moment of decoding, or to an element, which may lie in something that is closed.
  async function follow() {
    const place = route.parse(location.hash);
    if (place && place.task === shown) await player.show(place.task, place);
    else if (place) await showTask(place.task, place);
    await scroll(place);
  }

  // Once the charts have their heights: they are drawn in the frame after they got a place.
  async function scroll(place) {
    const target = place ? document.getElementById("player") : elementAt(location.hash);
    for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
    target?.scrollIntoView({ behavior: "instant" });
  }

  function elementAt(hash) {
    try {
      return document.getElementById(decodeURIComponent(hash.slice(1)));
    } catch {
      return null; // no address of ours
    }
  }

  // Paper has nothing to click on.
  function printing() {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("details:not([open])")];
      for (const one of opened) one.open = true;
    });
    addEventListener("afterprint", () => {
      for (const one of opened) one.open = false;
    });
  }

  async function start() {
    theme.start();
    menu();
    printing();
    buckets.show();
    training.show();

    provenance.show();
    const place = route.parse(location.hash);
    await showTask(place?.task ?? tasks[0], place);
    if (location.hash) await scroll(place);
    addEventListener("hashchange", follow);
    document.documentElement.dataset.drawn = "";
  }

  start();
})();
