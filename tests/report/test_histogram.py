"""The report reads what the real buckets stage writes, and refuses counts that contradict each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.bucket_world import SPECS, write_world

from trims_core.errors import ReportError
from trims_core.rendering import load_tokenizer
from trims_core.report.examples import corpus_examples
from trims_core.report.histogram import histogram_of
from trims_core.settings import load_config
from trims_core.stage import main
from trims_core.store import Artifact, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with corpus, scores and buckets made by the real buckets stage."""
    root = tmp_path_factory.mktemp("buckets")
    path = write_world(root)
    for stage in ("corpus", "scores", "aligned", "buckets"):
        assert main([stage, "--config", str(path)], specs=SPECS) == 0
    return Store(load_config(path).store)


def only(store: Store, stage: str) -> Artifact:
    """The one artifact of a stage."""
    (artifact,) = store.artifacts(stage)
    return artifact


def test_every_token_of_the_buckets_is_in_the_histogram(store: Store) -> None:
    found = histogram_of(only(store, "buckets"))
    bins = found["bins"]
    assert found["k"] == len(bins["counts_per_bucket"]) == 5
    assert all(len(row) == len(bins["edges_nats"]) - 1 for row in bins["counts_per_bucket"])
    assert sum(map(sum, bins["counts_per_bucket"])) + sum(bins["n_below_per_bucket"]) == found["n_tokens"]
    assert sum(bins["n_below_per_bucket"]) >= found["n_zero"] > 0


def test_examples_of_real_buckets_read_as_the_corpus_does(store: Store) -> None:
    buckets, corpus = only(store, "buckets"), only(store, "corpus")
    tokenizer = load_tokenizer(str(store.root.parent / "student"))
    shown = corpus_examples(buckets.files("buckets-"), corpus.files("corpus-"), tokenizer, 40)
    assert len(shown) == 40
    for example in shown:
        number = int(example["id"].removeprefix("ex-"))
        text = "".join(piece["text"] for piece in example["pieces"])
        assert text.startswith(f"Adding {number} and {number} gives {2 * number}.")
        assert text.endswith(("Voilà 𝛑!<|eot_id|>", "Done.<|eot_id|>"))
        assert example["prompt"] == f"What is {number} plus {number}?"


def test_contradicting_counts_are_refused(store: Store, tmp_path: Path) -> None:
    artifact = only(store, "buckets")
    for name in ("edges.json", "histogram.json"):
        (tmp_path / name).write_bytes(artifact.file(name).read_bytes())
    edges = json.loads((tmp_path / "edges.json").read_text())
    edges["bucket_sizes"][0] += 1
    (tmp_path / "edges.json").write_text(json.dumps(edges))
    with pytest.raises(ReportError, match=r"histogram\.json counts .* expected the same"):
        histogram_of(Artifact(tmp_path, artifact.manifest))
