"""Facts of one made-up problem per benchmark, with what a template could trip over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TESTS: Final = (
    "assert last_of([1, 2]) == 2",
    'assert last_of("a{{b}}") == "}" ',
    "assert last_of((3,)) == 3",
)

FACTS: Final[Mapping[str, Mapping[str, str]]] = {
    "demo": {"question": "Ann has 3 apples and buys 4. How many has she?"},
    "gsm8k": {"question": "Zoë’s {{cat}} costs $1,200; two cost {how much}?\nAnswer in €."},
    "math": {"question": "Find $\\frac{a}{b}$ if\n\\[a = 2b.\\]", "level": "1", "subject": "Algebra"},
    "humaneval": {
        "prompt": 'def last_of(items):\n    """The last.\n    >>> last_of({1: "{{x}}"})\n    """\n',
        "entry_point": "last_of",
    },
    "mbpp": {
        "text": "Write a function that gives the last of some items, as in {x}.",
        "tests": "\n".join(_TESTS),
        **{f"test_{number}": test for number, test in enumerate(_TESTS, 1)},
    },
    "countdown": {"numbers": "30, 100, 93", "joined_numbers": "30,100,93", "target": "23"},
    "sudoku": {"puzzle": "3102200002100320", "grid": "3102\n2000\n0210\n0320"},
}
