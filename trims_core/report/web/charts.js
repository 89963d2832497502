// How charts look, all drawn by Observable Plot as SVG: sizes, axes, intervals, direct labels, what a point says.
const charts = (() => {
  "use strict";

  const LABEL_GAP = 15; // pixels between the base lines of two labels
  const LETTER = 7; // pixels, about, of a letter of a label
  const SYMBOLS = {
    circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond,
    cross: d3.symbolCross, star: d3.symbolStar, wye: d3.symbolWye, times: d3.symbolTimes,
    asterisk: d3.symbolAsterisk, triangle2: d3.symbolTriangle2, diamond2: d3.symbolDiamond2, square2: d3.symbolSquare2,
    hexagon: { draw: (context, size) => hexagon(context, Math.sqrt(size / 2.6)) },
  };
  const paintings = new WeakMap();
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.clientWidth !== paintings.get(target).width) paint(target);
  });

  // Draws into the element, and again whenever its width changes. optionsOf: width → Plot's options.
  // listen: told the datum that is pointed at, or null.
  function draw(host, label, optionsOf, listen = null) {
    paintings.set(host, { label, optionsOf, listen, width: 0 });
    host.classList.add("chart");
    if (host.clientWidth) paint(host);
    watcher.observe(host);
    return host;
  }

  function paint(host) {
    const painting = paintings.get(host);
    painting.width = host.clientWidth;
    if (!painting.width) return;
    const options = painting.optionsOf(painting.width);
    const figure = Plot.plot({
      width: painting.width,
      height: Math.min(440, Math.max(280, painting.width * 0.62)),
      marginLeft: 44, marginBottom: 42, marginTop: 26, marginRight: 20,
      ...options,
      style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px", overflow: "visible" },
    });
    figure.setAttribute("role", "img");
    figure.setAttribute("aria-label", text.plain(painting.label, 2000));
    // a picture is told as a whole: names of its groups would be heard, and say nothing
    for (const group of figure.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
    if (painting.listen) figure.addEventListener("input", () => painting.listen(figure.value ?? null));
    host.replaceChildren(figure);
  }

  // Faint lines across, and axes without domain lines.
  function frame({ x, y, xTicks }) {
    return [
      Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1 }),
      Plot.axisX({ label: x, labelAnchor: "center", labelArrow: "none", tickSize: 0, tickPadding: 8, labelOffset: 38,
        ...(xTicks ?? {}) }),
      Plot.axisY({ label: y, labelArrow: "none", labelAnchor: "top", tickSize: 0, labelOffset: 40 }),
    ];
  }

  // A line with its band and points. points: {x, y, low, high, …} in the order of the line.
  function line(points, look, { band = true, marks = true, width = 2 } = {}) {
    const drawn = points.filter((point) => point.x !== null && point.y !== null);
    const channels = { x: "x", y: "y" };
    const out = [];
    if (band && drawn.some((point) => point.low !== undefined && point.low !== null)) {
      out.push(Plot.areaY(drawn, { x: "x", y1: "low", y2: "high", fill: look.colour, fillOpacity: 0.12 }));
    }
    out.push(Plot.line(drawn, { ...channels, stroke: look.colour, strokeWidth: width,
      strokeDasharray: look.dashed ? "6 4" : null }));
    if (marks) out.push(dots(drawn, look));
    return out;
  }

  function dots(points, look, { hollow = false, r = 4.5 } = {}) {
    const stroked = ["times", "asterisk", "triangle2", "diamond2", "square2"].includes(look.symbol);
    return Plot.dot(points, { x: "x", y: "y", symbol: look.symbol, r,
      fill: hollow || stroked ? "var(--ground)" : look.colour,
      stroke: hollow || stroked ? look.colour : "var(--ground)", strokeWidth: hollow || stroked ? 1.6 : 1 });
  }

  function rings(points, look) {
    return Plot.dot(points, { x: "x", y: "y", r: 8, stroke: look.colour, strokeWidth: 1.5 });
  }

  // What a point says, beside the pointer. Every point has `says`.
  function tip(points, options = {}) {
    return Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: "says", fill: "var(--ground)",
      stroke: "var(--faint)", fontSize: 12.5, lineHeight: 1.35, textPadding: 9, maxRadius: 60, ...options }));
  }

  // Names at the ends of lines, moved apart where they would lie on each other. items: {x, y, label, colour}.
  function endLabels(items) {
    return (_index, scales, _values, { width }) => {
      const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
      const placed = [];
      const wanted = items.map((item) => ({ ...item, px: scales.x(item.x), py: scales.y(item.y) }));
      for (const item of wanted.sort((a, b) => a.py - b.py)) {
        const label = text.plain(item.label, 26);
        const isAtEdge = item.px + 10 + label.length * LETTER > width;
        const left = isAtEdge ? item.px - label.length * LETTER : item.px + 10;
        let top = isAtEdge ? item.py - 12 : item.py + 4;
        const span = [left, left + label.length * LETTER];
        for (const other of placed) {
          const meets = span[0] < other.span[1] && other.span[0] < span[1];
          if (meets && top < other.top + LABEL_GAP) top = other.top + LABEL_GAP;
        }
        placed.push({ span, top });
        const shown = document.createElementNS("http://www.w3.org/2000/svg", "text");
        shown.setAttribute("x", isAtEdge ? item.px : left);
        shown.setAttribute("y", top);
        shown.setAttribute("text-anchor", isAtEdge ? "end" : "start");
        shown.setAttribute("class", "end-label");
        shown.style.setProperty("--colour", item.colour);
        shown.textContent = label;
        group.append(shown);
      }
      return group;
    };
  }

  // Names of panels, above each.
  function groupNames(names, side) {
    return Plot.text(names, { [side]: (name) => name, text: (name) => text.plain(name, 40), frameAnchor: "top-left", dy: -14,
      fontWeight: 600, fill: "var(--ink)" });
  }

  // A method's symbol, for keys in the text.
  function glyph(look) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    for (const [name, value] of [["viewBox", "-8 -8 16 16"], ["class", "glyph"], ["aria-hidden", "true"]]) {
      svg.setAttribute(name, value);
    }
    path.setAttribute("d", d3.symbol(SYMBOLS[look.symbol], 72)());
    path.style.fill = look.colour;
    path.style.stroke = look.colour;
    svg.append(path);
    return svg;
  }

  function hexagon(context, radius) {
    for (let corner = 0; corner < 6; corner += 1) {
      const angle = (Math.PI / 3) * corner;
      context[corner ? "lineTo" : "moveTo"](radius * Math.sin(angle), radius * Math.cos(angle));
    }
    context.closePath();
  }

  return { draw, frame, line, dots, rings, tip, endLabels, groupNames, glyph };
})();
