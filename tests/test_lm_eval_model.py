"""The model `trims` of lm-evaluation-harness: the sweep's tokens, stop strings, likelihoods, what is refused.

Needs the extra eval, which `make test` installs. The tasks lie in tests/lm_eval_tasks; nothing is fetched.
"""

from __future__ import annotations

import json
import logging.handlers
import queue
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.decoding_world import (
    N_PROBLEMS,
    NODE,
    config_of,
    samples_of,
    sweep_artifact,
    trained,
    write_sweep_world,
)

from trims_core.decoding.likelihood import MonteCarlo, log_likelihoods
from trims_core.decoding.runner import Answers, Prompt, Runner
from trims_core.errors import ConfigError, CorpusError
from trims_core.graph import build_graph, node_named
from trims_core.stage import run_node
from trims_core.store import Store

LENGTHS = {"gen_length": 16, "block_length": 8}
TASKS = Path(__file__).parent / "lm_eval_tasks"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student and its sweeps: untuned with two caches, with noise in a store of their own, and tuned."""
    root = tmp_path_factory.mktemp("swept")
    for name, sweep in {
        "plain": {"thresholds": [0.9, 0.3], "compare_caches": ["dual"]},
        "noisy": {"thresholds": [0.3], "sampling": {"temperature": 0.8, "seed": 5, "top_p": 0.95}},
    }.items():
        folder = root / name
        folder.mkdir()
        write_sweep_world(folder, raw={"train": {"variants": {"trims": {}}}}, **sweep)
        config = config_of(folder)
        run_node(Store(config.store), config, node_named(build_graph(config), NODE), {})
    config = config_of(root / "plain", f"store={root / 'tuned'}")
    adapter = trained(config)
    node = node_named(build_graph(config), "sweep/trims-s0")
    run_node(Store(config.store), config, node, {"train": adapter})
    return root


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No network, and a cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        yield


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Answers]:
    """What runners answered while the test ran."""
    found: list[Answers] = []
    answer = Runner.answer

    def kept(self: Runner, *given: Any) -> Answers:
        found.append(answer(self, *given))
        return found[-1]

    monkeypatch.setattr(Runner, "answer", kept)
    return found


@pytest.fixture(scope="module")
def manager() -> Any:
    """The harness's task manager with our two tasks alone."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(TASKS), include_defaults=False)


@pytest.fixture(scope="module")
def model(world: Path) -> Any:
    """The untuned student."""
    return _model(world)


def _model(world: Path, **given: Any) -> Any:
    from trims_core.lm_eval_model import TrimsLM

    student = str(world / "plain" / "student")
    return TrimsLM(**{"pretrained": student, "device": "cpu", "batch_size": 4, **LENGTHS, **given})


def _evaluate(
    manager: Any, monkeypatch: pytest.MonkeyPatch, task: str, model_args: Any, **more: Any
) -> dict[str, Any]:
    """The harness's results, with its Python API."""
    import lm_eval

    import trims_core.lm_eval_model

    assert trims_core.lm_eval_model
    monkeypatch.chdir(TASKS.parents[1])
    options = {"batch_size": 4, "device": "cpu", "apply_chat_template": True, "bootstrap_iters": 0, **more}
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model="trims", model_args=model_args, tasks=[task], task_manager=manager, **options
    )
    return found


def _request(text: str, other: Any, doc_id: int | None = 0, task: str = "made_up") -> Any:
    """An Instance, as far as it is read."""
    return SimpleNamespace(args=(text, other), task_name=task, doc_id=doc_id)


@pytest.mark.parametrize(
    ("store", "cell", "given"),
    [
        ("plain", "demo-t0.9", {"threshold": 0.9}),
        ("plain", "demo-t0.3", {"threshold": 0.3, "cache": "none"}),
        ("plain", "demo-t0.3-dual", {"threshold": 0.3, "cache": "dual"}),
        ("plain", "demo-tone", {"rule": "topk"}),
        ("noisy", "demo-t0.3", {"threshold": 0.3, "temperature": 0.8, "seed": 5, "top_p": 0.95}),
        ("tuned", "demo-t0.3", {"threshold": 0.3, "adapter": True}),
    ],
)
def test_on_the_same_prompts_it_has_the_sweeps_tokens(
    world: Path,
    manager: Any,
    monkeypatch: pytest.MonkeyPatch,
    decoded: list[Answers],
    store: str,
    cell: str,
    given: dict[str, Any],
) -> None:
    if "adapter" in given:
        (artifact,) = Store(world / "tuned").artifacts("train")
        given = {**given, "adapter": str(artifact.path / "adapter")}
    said = {"pretrained": str(world / "plain" / "student"), **LENGTHS, **given}
    results = _evaluate(manager, monkeypatch, "trims_answers", said)
    (artifact,) = Store(world / store / "store" if store != "tuned" else world / store).artifacts("sweep")
    swept = samples_of(artifact, cell)
    (answers,) = decoded
    for name in ("token_ids", "reveal_step", "n_tokens", "n_forwards", "finished"):
        assert [getattr(one, name) for one in answers.decoded] == swept[name], name
    samples = results["samples"]["trims_answers"]
    assert [sample["resps"][0][0] for sample in samples] == swept["text"]
    (line,) = results["config"]["trims"]["generate_until"]
    assert (line["task"], line["answers"]) == ("trims_answers", N_PROBLEMS)
    assert line["tokens_per_forward"] == sum(swept["n_tokens"]) / sum(swept["n_forwards"])


def test_the_cells_compared_differ(world: Path) -> None:
    """Else equality would say nothing."""
    texts = [samples_of(sweep_artifact(world / "plain"), cell)["text"] for cell in ("demo-t0.9", "demo-t0.3")]
    texts += [samples_of(sweep_artifact(world / "noisy"), "demo-t0.3")["text"]]
    (tuned,) = Store(world / "tuned").artifacts("sweep")
    texts += [samples_of(tuned, "demo-t0.3")["text"]]
    assert all(one != other for place, one in enumerate(texts) for other in texts[:place])


def test_a_string_of_model_args_and_the_harness_options_say_the_same(
    world: Path, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"pretrained={world / 'plain' / 'student'},threshold=0.3,cache=none,batch_size=2,gen_length=16"
    results = _evaluate(manager, monkeypatch, "trims_answers", said, batch_size=1, device="cuda:0")
    info = results["config"]["trims"]
    assert (info["options"]["cache"], info["options"]["batch_size"]) == ("none", 2)
    assert info["student"]["device"] == "auto"
    json.dumps(info)


def test_a_tasks_wish_is_the_canvas_where_model_args_name_none(
    world: Path, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"pretrained": str(world / "plain" / "student")}
    results = _evaluate(manager, monkeypatch, "trims_answers", said, limit=2)
    (line,) = results["config"]["trims"]["generate_until"]
    assert (line["gen_length"], line["max_gen_toks"], line["answers"]) == (16, 16, 2)


def test_another_canvas_than_the_task_asks_for_is_told(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = logging.handlers.QueueHandler(queue.SimpleQueue())
    logger = logging.getLogger("lm_eval.trims")
    monkeypatch.setattr(logger, "handlers", [heard])
    logger.setLevel(logging.INFO)
    try:
        model.generate_until([_request("Hi", {"max_gen_toks": 100})], disable_tqdm=True)
    finally:
        logger.setLevel(logging.NOTSET)
    warning, summary = (heard.queue.get_nowait().getMessage() for _ in range(2))
    assert "asks for max_gen_toks 100; it is decoded on a canvas of 16" in warning
    assert "1 answers, 16 tokens in 16 forwards, 1.00 tokens per forward" in summary


def test_requests_come_back_in_their_order_whatever_they_wish(model: Any) -> None:
    words = ["One?", "Two, and longer?", "Three", "Four?"]
    wishes = [{"until": ["a"]}, {}, {"until": ["a"]}, {}]
    together = [
        _request(word, wish, place) for place, (word, wish) in enumerate(zip(words, wishes, strict=True))
    ]
    alone = [model.generate_until([request], disable_tqdm=True)[0] for request in together]
    assert model.generate_until(together, disable_tqdm=True) == alone


def test_a_stop_string_ends_the_answer_before_it_and_ends_decoding(model: Any) -> None:
    (whole,) = model.generate_until([_request("How many?", {})], disable_tqdm=True)
    stop = whole[4:6]
    (cut,) = model.generate_until([_request("How many?", {"until": [stop, "<|eot_id|>"]})], disable_tqdm=True)
    assert cut == whole[: whole.index(stop)] != whole
    first, second = model.get_model_info()["trims"]["generate_until"][-2:]
    assert second["forwards"] < first["forwards"]
    assert second["stop"] == [stop]


def test_repeats_of_a_document_draw_noise_of_their_own_and_a_rerun_repeats_it(world: Path) -> None:
    noisy = _model(world, temperature=1.0, threshold=0.3)
    requests = [_request("How many?", {}, 0)] * 3 + [_request("How many?", {}, 1)]
    first = noisy.generate_until(requests, disable_tqdm=True)
    assert len(set(first)) == 4
    assert noisy.generate_until(requests, disable_tqdm=True) == first
    assert noisy.generate_until(requests[3:], disable_tqdm=True) == first[3:]


def test_many_requests_are_handed_to_the_harness_cache_as_they_are_done(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core import lm_eval_model

    monkeypatch.setattr(lm_eval_model, "_ANSWERS", 2)
    monkeypatch.setattr(lm_eval_model, "_CONTINUATIONS", 2)
    kept: list[tuple[str, Any, Any]] = []
    hook = SimpleNamespace(add_partial=lambda *what: kept.append(what))
    monkeypatch.setattr(model, "cache_hook", hook)
    answers = [_request(f"{place}?", {}, place) for place in range(5)]
    texts = model.generate_until(answers, disable_tqdm=True)
    assert kept == [("generate_until", one.args, text) for one, text in zip(answers, texts, strict=True)]
    kept.clear()
    scored = [_request("Q", f" {place}", place) for place in range(5)]
    found = model.loglikelihood(scored, disable_tqdm=True)
    assert kept == [("loglikelihood", one.args, value) for one, value in zip(scored, found, strict=True)]


def test_choices_are_scored_by_the_estimate_of_their_tokens(
    world: Path, manager: Any, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    said = {"pretrained": str(world / "plain" / "student"), "mc_num": 8, "mc_seed": 3}
    results = _evaluate(manager, monkeypatch, "trims_choices", said, apply_chat_template=False, limit=2)
    sample = results["samples"]["trims_choices"][1]
    pairs = [tuple(map(list, map(model.tok_encode, arguments))) for arguments in sample["arguments"]]
    wanted = log_likelihoods(model.runner.student, pairs, MonteCarlo(samples=8, seed=3))
    found = [resps[0][0] for resps in sample["resps"]]
    assert found == pytest.approx([one.nats for one in wanted], abs=1e-4)
    counted = results["config"]["trims"]["loglikelihood"]
    assert counted["continuations"] == 6
    assert 0 < counted["mean_error_nats"] <= counted["max_error_nats"]


def test_greedy_means_that_one_token_per_forward_decodes_the_continuation(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.decoding import DecodeSettings, TopK, decode

    prompt, length = model.tok_encode("How many?"), 5
    settings = DecodeSettings(TopK(length), length, length, stop_at_end=False)
    (greedy,) = decode(model.runner.student, [prompt], settings)
    other = [*greedy.token_ids[:-1], greedy.token_ids[-1] ^ 1]
    texts = ("", "")
    found = model._loglikelihood_tokens(
        [(texts, prompt, greedy.token_ids), (texts, prompt, other), (texts, prompt, greedy.token_ids[:1])],
        disable_tqdm=True,
    )
    (first,) = decode(model.runner.student, [prompt], DecodeSettings(TopK(1), 1, 1, stop_at_end=False))
    assert [is_greedy for _, is_greedy in found] == [True, False, first.token_ids == greedy.token_ids[:1]]

    # an end inside a continuation ends nothing
    ending = replace(model.runner.student.family, more_end_ids=(greedy.token_ids[0],))
    monkeypatch.setattr(model.runner.student, "family", ending)
    assert model._loglikelihood_tokens([(texts, prompt, greedy.token_ids)], disable_tqdm=True)[0][1] is True


def test_settings_of_the_estimate_reach_it(world: Path) -> None:
    scored = [_request("How many?", " twelve of them")]
    values = {
        name: _model(world, **given).loglikelihood(scored, disable_tqdm=True)[0][0]
        for name, given in {
            "seed 0": {},
            "again": {"mc_batch_size": 3},
            "seed 1": {"mc_seed": 1},
            "few": {"mc_num": 4, "mc_batch_size": 4},
            "published": {"mc_as_published": True},
            "guided": {"guidance": 0.5},
        }.items()
    }
    assert values.pop("again") == pytest.approx(values["seed 0"], abs=1e-3)
    assert len({round(value, 2) for value in values.values()}) == len(values)


def test_prompts_are_those_of_the_sweep_and_a_begun_answer_is_gone_on_with(model: Any) -> None:
    asked = [{"role": "user", "content": "How many?"}]
    text = model.apply_chat_template(asked)
    (ids,) = model.runner.render([Prompt("a", asked)], 16, "task")
    assert model.tok_encode(text) == ids
    begun = [*asked, {"role": "assistant", "content": "The answer"}]
    assert model.apply_chat_template(begun, add_generation_prompt=False) == f"{text}The answer"
    assert model.chat_template(True) == model.runner.renderer.template_source
    assert model.chat_template(False) is None
    with pytest.raises(ConfigError, match="begun answer was announced"):
        model.apply_chat_template(asked, add_generation_prompt=False)
    with pytest.raises(ConfigError, match="one template and no names"):
        model.chat_template("rag")


def test_a_template_of_ones_own_is_used_and_names_the_cached_prompts(
    world: Path, model: Any, tmp_path: Path
) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|eot_id|>{% endfor %}[assistant] "
    )
    own = _model(world, template_file=str(path))
    assert own.apply_chat_template([{"role": "user", "content": "Hi"}]) == "[user] Hi<|eot_id|>[assistant] "
    assert own.tokenizer_name != model.tokenizer_name


def test_what_a_template_refuses_is_an_error(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "strict.jinja"
    path.write_text(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m['role'] }}] {{ m['content'] }}<|eot_id|>{% endfor %}[assistant] "
    )
    strict = _model(world, template_file=str(path))
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for history, asks in ((told, True), ([*told, {"role": "assistant", "content": "I"}], False)):
        with pytest.raises(CorpusError, match="no system"):
            strict.apply_chat_template(history, add_generation_prompt=asks)


def test_a_beginning_of_sequence_is_put_in_front_on_request_once(world: Path, model: Any) -> None:
    bos = model.tokenizer.bos_token_id
    begun = _model(world, add_bos_token=True)
    assert model.tok_encode("Hi") == begun.tok_encode("Hi", add_special_tokens=False) == [39, 72]
    assert begun.tok_encode("Hi") == [bos, 39, 72] == begun.tok_encode(f"{model.tokenizer.bos_token}Hi")
    assert model.prefix_token_id == bos


@pytest.mark.parametrize(
    ("method", "requests", "said"),
    [
        ("generate_until", [_request("Hi" * 150, {}, 7)], "task made_up: the prompt of document '7' has 300"),
        ("generate_until", [_request("Hi", {"min_p": 1}, 7)], "task made_up: generation_kwargs has min_p"),
        ("loglikelihood", [_request("Hi", "", 7)], "task made_up, document 7: the continuation is empty"),
        ("loglikelihood", [_request("Hi" * 127, " you")], "254 tokens of context and 4 of the continuation"),
        (
            "loglikelihood_rolling",
            [_request("Hi", None, 7)],
            "task made_up, document 7: loglikelihood_rolling",
        ),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_by_name(
    model: Any, method: str, requests: list[Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        getattr(model, method)(requests, disable_tqdm=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "cud"}, "pretrained .* on device 'cud': .*expected a device of this machine"),
        ({"pretrained": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"adapter": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"suppress": "no such token"}, "suppress 'no such token': the student has no such token"),
    ],
)
def test_a_student_that_cannot_be_loaded_or_used_is_told(
    world: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        _model(world, **given).generate_until([_request("Hi", {})], disable_tqdm=True)


def test_several_processes_are_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes"):
        _model(world)


def test_without_the_extra_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "trims_core.lm_eval_model", raising=False)
    with pytest.raises(
        ConfigError, match=r"package lm_eval is not installed.*trims-pipeline\[eval\].*make extras"
    ):
        import trims_core.lm_eval_model  # noqa: F401
