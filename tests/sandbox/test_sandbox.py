"""What a verdict depends on, what stops the sandbox, and what it says of itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fakes.boxes import sandbox

from trims_core.errors import SandboxError
from trims_core.sandbox import Limits, Outcome, Program, Sandbox, box

BOX: list[Sandbox] = []


@pytest.fixture
def boxed() -> Sandbox:
    """One sandbox for all: its limits are the same."""
    if not BOX:
        BOX.append(sandbox())
    return BOX[0]


def verdict(boxed: Sandbox, source: str, *tests: str, names: tuple[str, ...] = ("f",)) -> str:
    return boxed.run(Program(source, names, tests)).verdict


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2"),
        ("f = lambda *a, **k: [a, k]", "assert f(1, b=2) == [(1,), {'b': 2}]"),
        (
            "def f(): raise ValueError('no')",
            "try:\n    f()\nexcept ValueError as e:\n    assert str(e) == 'no'",
        ),
        ("import re\ndef f(x): return re.search('a', x)", "assert f('ba') and not f('b')"),
        ("def f(x): return isinstance(3, x)", "assert f(int) and not f(str)"),
        (
            "def f(): return {1, 2}, {'a': (1,)}, 1e300, 2**90",
            "assert f() == ({2, 1}, {'a': (1,)}, 1e300, 1 << 90)",
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(p): return p.x",
            "p = P(3)\np.x = 4\nassert f(p) == p.x == 4",
        ),
        ("if __name__ == '__main__':\n    raise ValueError\ndef f(): return 1", "assert f() == 1"),
        (
            "from threading import Thread\ndef f():\n    t = Thread(target=f)\n    return t.start()",
            "assert f() is None",
        ),
        (
            "import os\ndef f():\n    with open(os.devnull, 'w') as n: print('x', file=n)",
            "assert f() is None",
        ),
    ],
)
def test_what_passes_natively_passes_here(boxed: Sandbox, source: str, test: str) -> None:
    assert boxed.run(Program(source, ("f", "P"), (test,))) == Outcome("right")


@pytest.mark.parametrize(
    ("source", "test", "said"),
    [
        ("def f(): return 2", "assert f() == 1", "test 1 of 1: AssertionError"),
        ("def f(: return 2", "assert f() == 1", "SyntaxError"),
        ("raise KeyError('x')", "assert True", "KeyError: 'x'"),
        ("x = 1", "assert f() == 1", "NameError"),
        ("def f(x): x.append(1)", "l = []\nf(l)\nassert l == [1]", "AssertionError"),
        ("def f(): return object()", "assert f() in (1, 2)", "no plain value"),
        ("def f(): return object()", "try:\n    f() == 1\nexcept BaseException:\n    pass", "no plain value"),
        (
            "import os\ndef f(): os._exit(0)",
            "try:\n    f()\nexcept BaseException:\n    pass",
            "the program ended",
        ),
        ("def f(): return '\\0' * (1 << 25)", "assert f()", "16777216"),
        ("def f(): return iter([1])", "assert list(f()) == [1]", "no plain value"),
        ("\ud800", "assert f() == 1", "surrogates not allowed"),
        ("x = '" + "a" * (1 << 25) + "'", "assert f() == 1", "expected at most"),
    ],
)
def test_wrong_says_why(boxed: Sandbox, source: str, test: str, said: str) -> None:
    outcome = boxed.run(Program(source, ("f",), (test,)))
    assert outcome.verdict == "wrong" and said in str(outcome.problem)


def test_tests_see_what_they_may_take_and_nothing_else(boxed: Sandbox) -> None:
    source = "def f(): return 1\ndef helper(): return 1\nset = sorted = lambda *_: 5"
    assert verdict(boxed, source, "helper()") == "wrong"
    assert verdict(boxed, source, "assert set([1]) == {1} and sorted([2, 1]) == [1, 2]") == "right"
    assert verdict(boxed, "def sum(a): return 7", "assert sum([1]) == 7", names=("sum",)) == "right"
    prelude = "def helper(): return 2"
    assert boxed.run(Program(source, ("f",), ("assert helper() == 2",), prelude)).verdict == "right"


def test_sets_have_one_order_so_that_a_verdict_stays(boxed: Sandbox) -> None:
    source = "def f(): return list({'a', 'b', 'c', 'd', 'e', 'f'})"
    first = "x = f()\nassert f() == x\nraise ValueError(x)"
    assert boxed.run(Program(source, ("f",), (first,))) == boxed.run(Program(source, ("f",), (first,)))


def test_limits_of_time_hold_for_program_and_judge() -> None:
    short = sandbox(time_s=60, cpu_s=1)
    for source, test in (
        ("while True: pass", ""),
        ("def f():\n    while True: pass", "f()"),
        ("def f(): return 10**10", "for _ in range(f()): pass"),
    ):
        outcome = short.run(Program(source, ("f",), (test,)))
        assert outcome == Outcome("timeout", "more than 1 CPU seconds")
    start = time.monotonic()
    outcome = sandbox(time_s=0.5).run(Program("import time\ntime.sleep(100)", (), ()))
    assert outcome == Outcome("timeout", "more than 0.5 s")
    assert time.monotonic() - start < 6


def test_many_keep_their_order(boxed: Sandbox) -> None:
    programs = [Program(f"def f(): return {n}", ("f",), (f"assert f() == {n // 2 * 2}",)) for n in range(8)]
    assert [one.verdict for one in boxed.run_all(programs, workers=3)] == ["right", "wrong"] * 4
    assert boxed.run_all([]) == []


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="apt-get install bubblewrap") as refused:
        Sandbox()
    assert refused.value.exit_code != 0


def test_a_bubblewrap_that_cannot_make_a_box_is_told_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SandboxError, match=r"No permissions to create new namespace.*user namespaces"):
        Sandbox()


def test_the_unsafe_way_needs_no_bubblewrap_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    unsafe = Sandbox(Limits(time_s=10), unsafe=True)
    assert "unsafe" in unsafe.mark
    assert verdict(unsafe, "def f(): return 1", "assert f() == 1") == "right"
    assert verdict(unsafe, "import os\nos._exit(0)", "") == "wrong"


FORGER = """
import os
from inside.channel import Channel
host = Channel(0, os.dup(1))
host.receive()
for message in (("up",), ("ran",), {said}):
    host.send(message)
host.receive()
"""


@pytest.mark.parametrize("said", ["('0' * 32, 'right', None)", "('right',)", "'right'", "b'right'"])
def test_a_verdict_without_the_nonce_is_none(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    unsafe = Sandbox(Limits(time_s=10), unsafe=True)
    command = [*box.bare_command()[:-1], FORGER.format(said=said)]
    monkeypatch.setattr(box, "bare_command", lambda: command)
    outcome = unsafe.run(Program("", (), ()))
    assert outcome == Outcome("error", "a verdict that nobody signed")


def test_the_mark_of_a_box_is_its_name(boxed: Sandbox) -> None:
    assert boxed.mark == "bubblewrap"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_runs_each_program_as_nobody_it_runs_another_as(boxed: Sandbox) -> None:
    numbers = {box.identity(number) for number in range(100)}
    assert len(numbers) == 100 and 0 not in numbers
    source = "import os\ndef f(): return os.getresuid() + os.getresgid(), os.getgroups()"
    test = "ids, groups = f()\nassert len(set(ids)) == 1 and ids[0] > 0 and groups == []"
    assert boxed.run(Program(source, ("f",), (test,))) == Outcome("right")


def test_a_container_with_few_identities_gives_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "is_privileged", lambda: True)
    monkeypatch.setattr(box, "_highest", lambda kind: 65536)
    found = {box.identity(number) for number in range(5000)}
    assert len(found) > 4000 and all(one is not None and 1 <= one < 65536 for one in found)


def test_a_box_holds_python_and_nothing_of_the_project(boxed: Sandbox) -> None:
    source = "import os\ndef f(): return [at for at, _, _ in os.walk('/')], sorted(os.listdir('/'))"
    listing = "folders, top = f()\nassert not [at for at in folders if at.endswith('/trims_core')], folders"
    private = "assert not {'home', 'tmp', 'etc', 'proc', 'sys', 'var', 'run'} & set(top), top"
    packages = "assert not [at for at in folders if 'site-packages/' in at or 'dist-packages/' in at]"
    assert boxed.run(Program(source, ("f",), (listing, private, packages))) == Outcome("right")
