"""The process that judges: tests run here, against stand-ins for the names of a program that runs elsewhere.

A stand-in sends plain arguments to the program's process and gives the plain value that comes back. An object
that is not plain stays with the program and is a `Remote` here: it may be passed back, and its attributes be
read and set, as tests that build trees need, and its truth be asked for; whatever compares it fails.
"""

from __future__ import annotations

import builtins

from .channel import Channel, EndedError
from .plain import NotPlainError

TYPE_CHECKING = False  # importing typing would take as long as Python's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


class UnfitError(BaseException):
    """No verdict but wrong is left: the program ended, or gave what nothing can be compared with."""


class OutOfTimeError(BaseException):
    """The judge's own CPU seconds are over: what the program gave takes a test too long."""


class RaisedError(Exception):
    """The program raised something that is no built-in exception."""


class Judge:
    """Asks the program's process, and remembers whether it ever failed to answer."""

    def __init__(self, reads: int, writes: int) -> None:
        self._channel = Channel(reads, writes, self._number_of, self._remote)
        self.unfit: str | None = None
        self.has_ended = False
        self.out_of_time = False

    def started(self) -> str | None:
        """None once the program's top level has run; else what went wrong there."""
        try:
            what, *rest = self._channel.receive()
        except EndedError:
            self.has_ended = True
            return "the program ended while its top level ran"
        except (NotPlainError, ValueError, TypeError):
            return "the program wrote into the answers' channel"
        return None if what == "ran" else f"{rest[0]}: {rest[1]}"

    def problem_with(self, prelude: str, names: list[str], tests: list[str]) -> str | None:
        """None if every test passes; else what went wrong.

        Args:
            prelude: what the benchmark defines for its tests. names: what they take from the program.
        """
        space: dict[str, Any] = {"__name__": "tests"}
        at = "what comes before the tests"
        try:
            exec(compile(prelude, "prelude.py", "exec"), space)
            space.update({name: self._stand_in(name) for name in names})
            for number, test in enumerate(tests, start=1):
                at = f"test {number} of {len(tests)}"
                exec(compile(test, "test.py", "exec"), space)
        except OutOfTimeError:
            self.out_of_time = True
            return f"{at}: too long"
        except BaseException as error:  # noqa: BLE001 - whatever a test raises means wrong
            said = str(error)[:300]
            return self.unfit or f"{at}: {type(error).__name__}{': ' if said else ''}{said}"
        return self.unfit

    def ask(self, *asked: object) -> Any:
        """The program's answer. Raises: what it raised; UnfitError: it does not answer any more."""
        try:
            self._channel.send(asked)
            reply = self._channel.receive()
        except EndedError:
            self.has_ended = True
            raise self.refusal("the program ended during a test") from None
        except NotPlainError as error:
            raise self.refusal(f"the program's answer: {error}") from None
        match reply:
            case ("gave", value):
                return value
            case ("raised", str(kind), str(text)):
                raise _error_of(kind, text)
        raise self.refusal("the program wrote into the answers' channel")

    def refusal(self, why: str) -> UnfitError:
        """What ends the tests; it counts also where a test catches everything."""
        self.unfit = self.unfit or why
        return UnfitError(why)

    def _stand_in(self, name: str) -> Callable[..., Any]:
        def call(*arguments: object, **keywords: object) -> Any:
            return self.ask("call", name, arguments, keywords)

        call.__name__ = name
        return call

    def _remote(self, number: int) -> object:
        return Remote(self, number)

    def _number_of(self, value: object) -> int:
        if isinstance(value, Remote):
            return int(object.__getattribute__(value, "_number"))
        raise NotPlainError(f"a test passes a {type(value).__name__}, which is no plain value")


def _error_of(kind: str, text: str) -> Exception:
    """The same built-in exception, so that tests may expect it."""
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(text)
        except TypeError:  # it takes more than a text
            pass
    return RaisedError(f"{kind}: {text}")


class Remote:
    """An object of the program's that is not plain."""

    __slots__ = ("_judge", "_number")

    def __init__(self, judge: Judge, number: int) -> None:
        object.__setattr__(self, "_judge", judge)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return object.__getattribute__(self, "_judge").ask("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        object.__getattribute__(self, "_judge").ask("set", self, name, value)

    def __bool__(self) -> bool:
        return bool(object.__getattribute__(self, "_judge").ask("true", self) is True)

    def _refuse(self, *_: object) -> NoReturn:
        raise object.__getattribute__(self, "_judge").refusal(
            "the program gave an object that is no plain value, which nothing can be compared with"
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __hash__ = __len__ = __iter__ = __contains__ = __getitem__ = __str__ = __repr__ = _refuse  # type: ignore[assignment]
    __call__ = __int__ = __float__ = __index__ = __complex__ = __round__ = __abs__ = __neg__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
