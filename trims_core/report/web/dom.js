// Elements made of parts: strings become text, never markup.
const dom = (() => {
  "use strict";

  // make("button", {class: "plain", onclick: f, "aria-label": "Play"}, "▶", otherElement)
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return element;
  }

  // Fills the place of this name; a section without any content is hidden.
  function fill(name, ...children) {
    const place = document.querySelector(`[data-fill="${name}"]`);
    place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    const section = place.closest("section");
    section.hidden = [...section.querySelectorAll("[data-fill]")].every((one) => !one.hasChildNodes());
    return place;
  }

  // A labelled menu. options: [value, label] pairs.
  function menu(label, options, chosen, onchange) {
    const select = make("select", { onchange: () => onchange(select.value) });
    for (const [value, shown] of options) {
      select.append(make("option", { value, selected: value === chosen }, text.plain(shown)));
    }
    return make("label", { class: "menu" }, make("span", {}, label), select);
  }

  // A group of radio buttons. options: [value, label] pairs.
  function choice(legend, name, options, chosen, onchange) {
    const buttons = options.map(([value, label]) =>
      make(
        "label",
        {},
        make("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onchange(value) }),
        make("span", {}, label),
      ),
    );
    return make("fieldset", { class: "choice" }, make("legend", {}, legend), make("div", {}, buttons));
  }

  function details(summary, ...children) {
    return make("details", {}, make("summary", {}, summary), ...children);
  }

  // Drawn in a square of 16 by 16, so that no font need have them.
  const ICONS = {
    play: "M4 2.5v11l9-5.5z", pause: "M4 3h3v10H4zM9 3h3v10H9z", back: "M11 3h2v10h-2zM9.5 2.5v11L3 8z", on: "M3 3h2v10H3zM6.5 2.5v11L13 8z",
    start: "M2 3h2v10H2zM9 2.5v11L4 8zM14 2.5v11L9 8z", end: "M12 3h2v10h-2zM2 2.5v11L7 8zM7 2.5v11L12 8z",
  };

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("class", "icon");
    path.setAttribute("d", ICONS[name]);
    svg.append(path);
    return svg;
  }

  return { make, fill, menu, choice, details, icon };
})();
