// Ready tables: a caption, a header, rows of text. A wide one scrolls in its own region, the first column stays.
const tables = (() => {
  "use strict";

  // Numbers stand flush right, words left.
  const LONG = 28; // letters from which words may wrap
  const IS_NUMBER = /^(?:[−+<≥~[]?\s*[−+]?\d.*|–)$/u;

  function make({ caption, header, rows }, { rowId = () => null } = {}) {
    const isNumeric = header.map((_, column) => column > 0 && rows.every((row) => IS_NUMBER.test(row[column])));
    const isLong = header.map((_, column) => rows.some((row) => row[column].length > LONG));
    const side = (column) => (isNumeric[column] ? null : isLong[column] ? "words long" : "words");
    const head = header.map((cell, column) => dom.make("th", { scope: "col", class: side(column) }, text.node(cell)));
    const body = rows.map((row) =>
      dom.make(
        "tr",
        { id: rowId(row) },
        row.map((cell, column) =>
          column === 0
            ? dom.make("th", { scope: "row", class: "words" }, text.node(cell))
            : dom.make("td", { class: side(column) }, text.node(cell)),
        ),
      ),
    );
    const label = text.plain(caption);
    return dom.make(
      "div",
      { class: "table" },
      dom.make("p", { class: "caption" }, text.node(caption)),
      dom.make(
        "div",
        { class: "scroll", role: "region", tabindex: "0", "aria-label": label },
        dom.make(
          "table",
          { "aria-label": label },
          dom.make("thead", {}, dom.make("tr", {}, head)),
          dom.make("tbody", {}, body),
        ),
      ),
    );
  }

  return { make };
})();
