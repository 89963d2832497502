// What the page is made of. results: results.json. samples: samples.json. shown: sentences, tables and looks that
// follow from the results. libraries: what is embedded.
const data = (() => {
  "use strict";
  const read = (name) => JSON.parse(document.getElementById(`${name}-data`).textContent);
  return {
    results: read("results"),
    samples: read("samples"),
    shown: read("shown"),
    libraries: read("libraries"),
    isServed: document.body.hasAttribute("data-served"),
  };
})();
