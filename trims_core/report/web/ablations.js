// What each setting is worth, one at a time: the table of an ablation.
const ablations = (() => {
  "use strict";

  function show() {
    const found = data.results.ablations;
    dom.fill("ablations", found && data.shown.tables.ablations ? tables.make(data.shown.tables.ablations) : null);
  }

  return { show };
})();
