// Where every number is from: artifacts and the commands that make them again, settings, versions, machines.
const provenance = (() => {
  "use strict";

  const idOf = (node) => `artifact:${node.replaceAll("/", ":")}`;
  const isThere = (node) => data.results.stages.some((row) => row.node === node);

  // The node of a model: of `label:model`, where runs stand side by side, `label:stage/model`.
  function nodeOf(stage, model) {
    const end = model.lastIndexOf(":") + 1;
    return `${model.slice(0, end)}${stage}/${model.slice(end)}`;
  }

  // A link to an artifact's row, null where there is none.
  function link(node) {
    return isThere(node) ? dom.make("a", { href: `#${idOf(node)}` }, text.node(node)) : null;
  }

  // What a section is made of, under a line that opens.
  function sources(section) {
    const { artifacts, command, drawn_by: drawnBy } = data.shown.sources[section];
    if (!command) return null;
    const listed = artifacts.map(([node, fingerprint]) => dom.make("li", {}, link(node), " ", dom.make("code", {}, fingerprint)));
    return dom.make("div", { class: "sources" }, dom.details("Where this is from", dom.make("ul", {}, listed),
      dom.make("p", {}, "Made again by ", dom.make("code", {}, command), `${data.results.runs ? ", CONFIG being the run's" : ""}, figures alone by `,
        dom.make("code", {}, drawnBy), ".")));
  }

  function show() {
    const { provenance: found, stages } = data.results;
    const machines = data.shown.tables.machines;
    dom.fill("provenance",
      dom.make("p", {}, `Page written by commit ${found.written_by ?? "that is not known"}. Student: `,
        found.student.map((name, place) => [place ? ", " : "", dom.make("code", {}, text.node(name))])),
      artifacts(stages), machines ? tables.make(machines) : null,
      dom.details("Settings", pre(found.config)),
      found.teacher ? dom.details("Teacher", pre(found.teacher)) : null,
      dom.details("Inputs", pre(found.inputs)),
      dom.details("Versions", pre(found.versions)),
      dom.details("Libraries of this page", dom.make("ul", {}, data.libraries.map((one) =>
        dom.make("li", {}, `${one.name} ${one.version}, ${one.licence}, from ${one.source}; sha256 `, dom.make("code", {}, one.sha256))))));
  }

  function artifacts(stages) {
    const rows = stages.map((row) => [row.node, row.fingerprint, row.content_digest, row.seed === null ? "–" : String(row.seed),
      row.machine ?? "–", row.commit ?? "–"]);
    return dom.details(`${stages.length} artifacts`, tables.make(
      { caption: "Artifacts: their names in the store, and digests of their contents", header: ["artifact", "fingerprint",
        "content", "seed", "made on", "by commit"], rows }, { rowId: ([node]) => idOf(node) }));
  }

  const pre = (value) => dom.make("pre", { tabindex: "0" }, text.node(JSON.stringify(value, null, 1)));

  return { nodeOf, link, sources, show };
})();
