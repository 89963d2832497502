// Texts of models and data, shown as text: characters that a reader could not see, or that would turn the line
// around, are shown by name.
const text = (() => {
  "use strict";

  // C0 but tab and line feed, DEL and C1, soft hyphen, bidi marks and other format characters, tags
  const HIDDEN =
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
  const AT_MOST = 120;

  // `␀` for a control character, `U+202E` for what has no picture.
  function nameOf(character) {
    const code = character.codePointAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  }

  // The text in an element of its own direction.
  function node(value, tag = "bdi") {
    const element = document.createElement(tag);
    const source = String(value);
    let start = 0;
    for (const found of source.matchAll(HIDDEN)) {
      element.append(source.slice(start, found.index));
      const chip = document.createElement("span");
      chip.className = "unseen";
      chip.textContent = nameOf(found[0]);
      element.append(chip);
      start = found.index + found[0].length;
    }
    element.append(source.slice(start));
    return element;
  }

  // The text for places that hold no elements (labels, titles, drawings); long ones are cut.
  function plain(value, atMost = AT_MOST) {
    const shown = String(value).replace(HIDDEN, nameOf);
    return shown.length > atMost ? `${shown.slice(0, atMost)}…` : shown;
  }

  return { node, plain };
})();
