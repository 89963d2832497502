"""A chat template under a run's settings, and what a finished turn of it looks like.

A template says twice how an answer begins: in the header that asks for one, and in a turn that is finished.
The two differ in the field: R1's header opens `<think>`, its finished turns have none; Qwen3's finished turns
have an empty thinking block, its header has none; gpt-oss names a channel. So every kind of conversation
(its roles, and whether the answer thinks aloud) is rendered once with made-up words, finished and not, and
every prompt is made to end as the finished turn does: finished = prompt + answer + end.

Covered: headers that go further than the finished turn (the rest is dropped), or less far (the rest is
inserted), answers that bring the opening tag themselves, ends that are any added token, or plain text.
Templates that rewrite how an answer begins have its rows refused. Not covered: white space that a template
trims at the ends of an answer; the answer's bytes stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from trims_core.config import TemplateConfig
from trims_core.errors import ConfigError, TrimsError, nearest_name
from trims_core.fingerprint import Digests
from trims_core.text_files import text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = Mapping[str, str]

_ANSWER: Final = "qzcompletionqz"
_REASON: Final = "qzreasonqz"
_QUESTION: Final = "qzquestionqz"
_SYSTEM: Final = "qzsystemqz"
_TAG: Final = re.compile(r"<(/?)([A-Za-z][\w-]*)>|\[(/?)([A-Z_]+)\]")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")


class RefusedByTemplateError(Exception):
    """One row: a template does not take a conversation, or does not show its answer as it is."""


class Thinking(NamedTuple):
    """How an answer thinks aloud: between tags that the template knows."""

    opening: str
    closing: str
    brings_opening: bool
    """False: the answer only closes what the header opened."""


@dataclass(frozen=True, slots=True)
class Form:
    """What becomes of a generation header in front of an answer of some kind."""

    dropped: str = ""
    """End of the header that the finished turn does not have there, or that the answer brings itself."""
    inserted: str = ""
    """What the finished turn has between header and answer."""

    def prompt(self, header: str) -> str:
        """The prompt up to the answer. Raises: RefusedByTemplateError."""
        if not header.endswith(self.dropped):
            raise RefusedByTemplateError(
                f"its header does not end in {self.dropped!r} as that of a sample does"
            )
        return header.removesuffix(self.dropped) + self.inserted

    def __str__(self) -> str:
        said = [f"without {self.dropped!r}"] if self.dropped else []
        said += [f"with {self.inserted!r} inserted"] if self.inserted else []
        return " and ".join(said) or "as it is"


class Sample(NamedTuple):
    """A question and its answer, as a template shows them."""

    opening: str
    """What a conversation begins with, up to the question."""
    tail: str
    """All that stands behind the answer."""
    gap: str | None
    """Where the header for a next answer stands behind every conversation, asked for or not: what is between
    the answer and a second question, the header of that question included."""


class ChatTemplate:
    """Conversations as text. Safe to share between threads.

    Args:
        settings: template file, keywords and date.
        section: where they stand in the config, for messages: scores or student.

    Raises:
        ConfigError: no template, one that does not show a question and its answer, or a keyword that it does
            not read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        settings: TemplateConfig | None = None,
        section: str = "scores",
    ) -> None:
        settings = settings or TemplateConfig()
        self._tokenizer = tokenizer
        self.section = section
        name = str(tokenizer.name_or_path or type(tokenizer).__name__)
        self.name = name if settings.template_file is None else f"{settings.template_file} (for {name})"
        own = template_text(settings, section)
        self.source = self._own_source() if own is None else own
        """The template itself."""
        self._check_keywords(settings.template)
        today = datetime.fromisoformat(settings.template_date)
        self._keywords: dict[str, Any] = {
            "date_string": today.strftime("%d %b %Y"),  # Llama 3's name for it
            "strftime_now": lambda form: today.strftime(form),
            **settings.template,
        }
        self._tags = _tags_of(self.source)
        self.sample = self._sample()
        self._forms: dict[tuple[tuple[str, ...], Thinking | None], Form | str] = {}

    def header(self, messages: Sequence[Message]) -> str:
        """The conversation with the header that asks for an answer. Raises: RefusedByTemplateError."""
        return self._render(messages, generation=True)

    def own_system(self) -> str:
        """What the template says as system where a conversation does not; empty where nothing.

        Raises:
            ConfigError: it shows no system message.
        """
        question = {"role": "user", "content": _QUESTION}
        try:
            told = self.header([{"role": "system", "content": _SYSTEM}, question])
            asked, refusal = self.header([question]), "its text is not in what the template makes of one"
        except RefusedByTemplateError as error:
            told, asked, refusal = "", "", str(error)
        before, found, behind = told.partition(_SYSTEM)
        if not found:
            raise ConfigError(
                f"{self._failing} a system message, in which a teacher is told the right answer: {refusal}."
                f" {self._remedy}, or leave out the methods with such a teacher (tad)"
            )
        framed = asked.startswith(before) and asked.endswith(behind)
        return asked[len(before) : max(len(asked) - len(behind), len(before))] if framed else ""

    def form(self, messages: Sequence[Message], completion: str) -> Form:
        """How the header meets an answer of this kind; worked out once per kind.

        Raises:
            RefusedByTemplateError: the template fails, or makes another answer of this one.
        """
        roles = tuple(str(message.get("role")) for message in messages)
        key = (roles, _thinking(completion, self._tags))
        if key not in self._forms:
            try:
                self._forms[key] = self._compare(*key)
            except RefusedByTemplateError as refusal:
                self._forms[key] = str(refusal)
        found = self._forms[key]
        if isinstance(found, str):
            raise RefusedByTemplateError(found)
        return found

    def _sample(self) -> Sample:
        """A question and its answer in this template.

        Raises:
            ConfigError: the template shows no answer, or fails.
        """
        question = {"role": "user", "content": _QUESTION}
        answer = {"role": "assistant", "content": _ANSWER}
        try:
            finished = self._render([question, answer], generation=False)
            asked = self._render([question], generation=True)
            always_asks = asked == self._render([question], generation=False)
            goes_on = self._render([question, answer, question], generation=False) if always_asks else ""
        except RefusedByTemplateError as refusal:
            raise ConfigError(
                f"{self._failing} a question and its answer: {refusal}. {self._remedy}"
            ) from refusal
        before, found, tail = finished.rpartition(_ANSWER)
        if not found:
            raise ConfigError(
                f"{self._failing} a finished turn: the assistant's text is not in what it makes of one;"
                f" expected every message's content. {self._remedy}"
            )
        gap = goes_on.rpartition(_ANSWER)[2].partition(_QUESTION)[0] if always_asks else None
        return Sample(before.partition(_QUESTION)[0], tail, gap)

    @property
    def _failing(self) -> str:
        return f"{self.section}: the chat template of {self.name} does not render"

    @property
    def _remedy(self) -> str:
        return f"Correct it, or give another one as {self.section}.template_file"

    def _own_source(self) -> str:
        template: Any = self._tokenizer.chat_template
        if isinstance(template, dict):
            if "default" not in template:
                raise ConfigError(
                    f"{self.name}: its chat templates are named {', '.join(sorted(template))}; expected one"
                    f" named default. Save the one to use as a file and set {self.section}.template_file"
                )
            template = template["default"]
        if not template:
            raise ConfigError(
                f"{self.name}: the tokenizer has no chat template; set {self.section}.template_file to one,"
                " put chat_template.jinja beside its tokenizer.json, or use an instruction-tuned checkpoint"
            )
        return str(template)

    def _check_keywords(self, keywords: Mapping[str, object]) -> None:
        known = set(_WORD.findall(self.source))
        for name in keywords:
            if name not in known:
                near = nearest_name(name, sorted(known))
                raise ConfigError(
                    f"{self.section}.template.{name}: the chat template of {self.name} does not read it;"
                    f" {near if near.endswith('?') else 'expected a name that its text has.'}"
                    " Correct the name or leave it out"
                )

    def _render(self, messages: Sequence[Message], *, generation: bool) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    chat_template=self.source,
                    tokenize=False,
                    add_generation_prompt=generation,
                    **self._keywords,
                )
            )
        except TrimsError:  # a signal's
            raise
        except Exception as error:  # a template is a program: whatever it raises is how it refuses
            roles = [message.get("role") for message in messages]
            raise RefusedByTemplateError(f"roles {roles}: {first_line(error)}") from error

    def _compare(self, roles: Sequence[str], thinking: Thinking | None) -> Form:
        """The header against the finished turn, with made-up words for contents."""
        opening = [{"role": role, "content": f"qz{role}qz"} for role in roles]
        answer = _ANSWER
        if thinking is not None:
            first = thinking.opening if thinking.brings_opening else ""
            answer = f"{first}{_REASON}{thinking.closing}{_ANSWER}"
        header = self._render(opening, generation=True)
        finished = self._render([*opening, {"role": "assistant", "content": answer}], generation=False)
        start = _start_of(finished, thinking)
        if start is None:
            return Form()
        before, tail = finished[:start], finished.rpartition(_ANSWER)[2]
        shared = _shared_length(header, before)
        last = opening[-1]["content"] if opening else ""
        if shared < header.rfind(last) + len(last):
            raise RefusedByTemplateError(
                f"roles {list(roles)}: a finished turn begins with {before[-80:]!r}, its prompt with"
                f" {header[-80:]!r}; expected the same conversation in both"
            )
        if tail != self.sample.tail:
            raise RefusedByTemplateError(
                f"roles {list(roles)}: {tail!r} stands behind a finished turn; expected {self.sample.tail!r},"
                " as behind a question and its answer"
            )
        form = Form(header[shared:], before[shared:])
        opens = thinking is not None and form.dropped.strip() == thinking.opening and not form.inserted
        # a template may show an answer that only closes its thinking without what the header opened
        return Form() if opens and thinking is not None and not thinking.brings_opening else form


def template_text(settings: TemplateConfig, section: str) -> str | None:
    """The template that the settings give; None where the checkpoint's own counts.

    Raises:
        ConfigError: the file is not there, or no text.
    """
    path = settings.template_file
    return None if path is None else text_of(Path(path), f"a Jinja template, as {section}.template_file")


def template_inputs(settings: TemplateConfig, digests: Digests) -> dict[str, str]:
    """The digest of a template file, for keys; none where the checkpoint's own counts."""
    path = settings.template_file
    return {} if path is None else {"template": digests.file(path)}


def first_line(error: BaseException) -> str:
    """What an error says, cut to a line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _start_of(finished: str, thinking: Thinking | None) -> int | None:
    """Where the answer begins in a finished turn; None where the template hides what it begins with, and the
    header is all there is to go by.

    Raises:
        RefusedByTemplateError: the answer is not there, or another one.
    """
    answer_at = finished.rfind(_ANSWER)
    if answer_at < 0:
        raise RefusedByTemplateError("a finished turn does not show its answer")
    if thinking is None:
        return answer_at
    reason_at = finished.rfind(_REASON)
    if reason_at < 0:
        return _without_tags(finished[:answer_at], thinking) if thinking.brings_opening else None
    if not thinking.brings_opening:
        return reason_at
    begins = finished[:reason_at].rstrip()
    if not begins.endswith(thinking.opening):
        raise RefusedByTemplateError(
            f"a finished turn begins its thinking with {begins[-40:]!r}, the answer with {thinking.opening!r}"
        )
    return len(begins) - len(thinking.opening)


def _shared_length(a: str, b: str) -> int:
    """How many characters two texts have in common from their beginnings on."""
    differs = (place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differs, min(len(a), len(b)))


def _without_tags(before: str, thinking: Thinking) -> int:
    """Where a text ends without the tags at its end: an answer brings its own."""
    tags = "|".join(map(re.escape, (thinking.opening, thinking.closing)))
    found = re.search(rf"(?:(?:{tags})\s*)+\Z", before)
    return len(before) if found is None else found.start()


def _tags_of(source: str) -> list[tuple[str, str]]:
    """Opening and closing tags that a template's text names, either of each pair."""
    found: dict[tuple[str, str], None] = {}
    for match in _TAG.finditer(source):
        xml, brackets = match[2], match[4]
        pair = (f"<{xml}>", f"</{xml}>") if xml else (f"[{brackets}]", f"[/{brackets}]")
        found[pair] = None
    return list(found)


def _thinking(completion: str, tags: Sequence[tuple[str, str]]) -> Thinking | None:
    """How an answer thinks aloud, in the template's own tags."""
    text = completion.lstrip()
    for opening, closing in tags:
        if text.startswith(opening):
            return Thinking(opening, closing, brings_opening=True)
    for opening, closing in tags:
        before, closed, _ = text.partition(closing)
        if closed and opening not in before:
            return Thinking(opening, closing, brings_opening=False)
    return None
