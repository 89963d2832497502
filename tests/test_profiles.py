"""Profiles: each loads, says where it comes from, and asks exactly what it asked before; own files work."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from fakes.profile_facts import FACTS

from trims_core.benchmarks.graders.registry import GRADERS
from trims_core.benchmarks.tasks import load_tasks
from trims_core.errors import ConfigError, CorpusError
from trims_core.fingerprint import sha256_json
from trims_core.profiles import Profile, PromptText, get_profile, profile_names
from trims_core.sweep_sections import SweepConfig, TaskConfig

PINNED: Final = json.loads(Path(__file__).with_name("profile_digests.json").read_text(encoding="utf-8"))
"""Name → sha256 of what its made-up problem is asked. A change of words changes what every number means."""
DATA: Final = {
    "gsm8k": "gsm8k/test.jsonl.gz",
    "math": "math/math500.jsonl.gz",
    "humaneval": "humaneval/HumanEval.jsonl.gz",
    "mbpp": "mbpp/mbpp.jsonl.gz",
    "countdown@d1": "planning/d1_countdown_cd3_test.jsonl",
    "countdown@dream-cd3": "planning/dream_cd3_test.jsonl.gz",
    "countdown@dream": "planning/dream_cd4_test.jsonl.gz",
    "countdown@dream-cd5": "planning/dream_cd5_test.jsonl.gz",
    "sudoku@d1": "planning/d1_sudoku4x4_test.csv",
    "sudoku@dream": "planning/dream_sudoku4x4.jsonl.gz",
}
"""Benchmark or profile → its rows among the reference data."""
OWN = """
benchmark: demo
source: mine
prompt: {question: "Say it. {{question}}", answer_prefix: "Well, {{question}}"}
gen_length: 32
block_length: 32
graders: [last_answer_sentence]
samples: mine
n_samples: 2
"""


def digest(name: str) -> str:
    """Of the prompt of the benchmark's made-up problem."""
    profile = get_profile(name)
    facts, prompt = FACTS[profile.benchmark], profile.prompt
    return sha256_json([prompt.chat, prompt.messages(facts, name), prompt.prefix(facts, name)])


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file with these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_published_protocols_are_there() -> None:
    assert set(profile_names()) >= {
        *("gsm8k@d3llm-cot0", "gsm8k@fastdllm-5shot", "gsm8k@dparallel-boxed", "gsm8k@d1-tags"),
        *("math@minerva-4shot", "math500@boxed0", "math500@d1-tags"),
        *("humaneval@fastdllm-0shot", "humaneval@instruct", "mbpp@fastdllm-3shot", "mbpp@instruct"),
        *("countdown@d1", "countdown@dream", "sudoku@d1", "sudoku@dream", "demo@demo"),
    }


def test_every_profile_has_a_pinned_prompt_and_no_other_is_pinned() -> None:
    assert sorted(PINNED) == list(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_asks_what_it_asked_before(name: str) -> None:
    assert digest(name) == PINNED[name]


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_names_its_source_with_version_and_licence(name: str) -> None:
    profile = get_profile(name)
    assert profile.source == "this project, data/demo/README.md" or "(" in profile.source
    assert len(profile.graders) >= 2, "a number is read beside that of another grader"


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_names_known_graders(name: str) -> None:
    assert [grader for grader in get_profile(name).graders if grader not in GRADERS] == []


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_can_be_decoded_as_it_stands(name: str) -> None:
    sweep = SweepConfig.model_validate({"tasks": {"one": {"profile": name}}})
    profile = get_profile(name)
    assert sweep.decoding("one").gen_length == profile.gen_length
    assert sweep.departures("one") == {}


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "demo@demo"])
def test_a_profile_asks_the_rows_of_its_real_data_set(shared_data: Path, name: str) -> None:
    rows = DATA[name] if name in DATA else DATA[get_profile(name).benchmark]
    found = load_tasks({"t": TaskConfig(profile=name, path=(str(shared_data / "data" / rows),), limit=3)})
    skipped = get_profile(name).skip
    assert len(found["t"]) == 3 and len({problem.messages[-1]["content"] for problem in found["t"]}) == 3
    assert all("{{" not in problem.messages[-1]["content"] for problem in found["t"])
    assert skipped in (0, len(get_profile(name).prompt.shots))


@pytest.mark.parametrize(
    ("name", "path", "place", "n"),
    [
        ("countdown@dream-cd3", "dream_cd3_test.jsonl.gz", "joined_numbers", 992),
        ("countdown@dream", "dream_cd4_test.jsonl.gz", "joined_numbers", 992),
        ("countdown@dream-cd5", "dream_cd5_test.jsonl.gz", "joined_numbers", 992),
        ("sudoku@dream", "dream_sudoku4x4.jsonl.gz", "grid", 100),
    ],
)
def test_dreams_examples_are_the_first_rows_of_its_files(
    shared_data: Path, name: str, path: str, place: str, n: int
) -> None:
    with gzip.open(shared_data / "data/planning" / path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row.get("givens", 10) == 10]
    profile = get_profile(name)
    shown = [
        shot[place] + (f",{shot['target']}" if "target" in shot else "") for shot in profile.prompt.shots
    ]
    assert shown == [row["input"] for row in rows[: profile.skip]]
    assert profile.n_samples == len(rows) - profile.skip == n


def test_an_own_file_is_a_profile_and_its_prefix_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN, encoding="utf-8")
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": "1+1?", "answer": "2"}])
    [problem] = load_tasks({"t": TaskConfig(profile=str(path), path=(str(rows),))})["t"]
    assert problem.messages == ({"role": "user", "content": "Say it. 1+1?"},)
    assert problem.answer_prefix == "Well, 1+1?"


def test_a_changed_own_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(OWN, encoding="utf-8")
    assert get_profile(str(path)).gen_length == 32
    path.write_text(OWN.replace("gen_length: 32", "gen_length: 64"), encoding="utf-8")
    assert get_profile(str(path)).gen_length == 64


def test_rows_that_the_prompt_shows_are_not_asked_and_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN + "skip: 2\n", encoding="utf-8")
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": f"{n}?", "answer": str(n)} for n in range(5)])
    task = TaskConfig(profile=str(path), path=(str(rows),), limit=2)
    assert [problem.id for problem in load_tasks({"t": task})["t"]] == ["demo-00002", "demo-00003"]
    with pytest.raises(CorpusError, match=r"no problems in .* behind the first 9, which the prompt shows"):
        path.write_text(OWN + "skip: 9\n", encoding="utf-8")
        load_tasks({"t": task})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gsm8k@d3lm-cot0", None, "'gsm8k@d3lm-cot0' is not known; did you mean 'gsm8k@d3llm-cot0'?"),
        ("./gone.yaml", None, "no such file; expected a profile's YAML file"),
        ("own.yaml", OWN.replace("prompt", "promt"), "promt: not a key; did you mean 'prompt'?"),
        ("own.yaml", OWN.replace("{question:", "{quetsion: a, question:"), "prompt.quetsion: not a key"),
        ("own.yaml", OWN.replace("gen_length: 32", "gen_length: 33"), "gen_length 33 is not a multiple"),
        ("own.yaml", OWN.replace("gen_length: 32", ""), "gen_length: Field required"),
        ("own.yaml", "- a", "expected keys such as benchmark and prompt, found list"),
        ("own.yaml", OWN + "samples: b\n", "samples"),
        (
            "own.yaml",
            OWN.replace("{{question}}", "{{problem}}"),
            "nothing fills {{problem}}; there are question",
        ),
    ],
)
def test_a_wrong_profile_is_refused_by_name(
    name: str, text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": "1+1?", "answer": "2"}])
    if text is not None:
        Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_tasks({"t": TaskConfig(profile=name, path=(str(rows),))})
    assert message in str(caught.value)
    assert name.removeprefix("./") in str(caught.value)


@pytest.fixture
def documents(project_root: Path) -> str:
    """What is written about evaluation."""
    found = sorted((project_root / "docs").glob("evaluation*.md"))
    return "".join(path.read_text(encoding="utf-8") for path in found)


def test_every_profile_stands_in_the_documents(documents: str) -> None:
    assert [name for name in profile_names() if f"`{name}`" not in documents] == []


def test_the_profile_of_the_documents_is_one_with_all_keys(documents: str, tmp_path: Path) -> None:
    [shown] = [
        block for block in re.findall(r"```yaml\n(.*?)```", documents, re.DOTALL) if "n_samples" in block
    ]
    path = tmp_path / "shown.yaml"
    path.write_text(shown, encoding="utf-8")
    profile = get_profile(str(path))
    assert set(Profile.model_fields) == profile.model_fields_set
    assert set(PromptText.model_fields) == profile.prompt.model_fields_set
