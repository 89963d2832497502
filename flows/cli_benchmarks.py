"""`trims benchmarks`: the named protocols, what numbers under them depend on, and what is asked in them."""

from __future__ import annotations

import textwrap
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from flows.console import standard_output
from flows.tables import plain_table
from trims_core.errors import ConfigError, nearest_name
from trims_core.profiles import Profile, get_profile, profile_names
from trims_core.published import points_of

EXAMPLES: Final = (
    "Examples:  trims benchmarks   |   trims benchmarks gsm8k@d3llm-cot0 --fact question='How many?'   |"
    "   trims benchmarks ./mine.yaml"
)
_SHOWN_UNKNOWN: Final = 90
_NOT_STATED: Final = "–"


def benchmarks(
    name: Annotated[
        str | None,
        typer.Argument(help="One profile in full: its name, or your own YAML file.", metavar="[NAME]"),
    ] = None,
    fact: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="What a placeholder of the prompt stands for; repeatable."),
    ] = None,
) -> None:
    """List the profiles (named protocols) that tasks can be run under; with a name, one with its prompt."""
    console = standard_output()
    if name is not None:
        _show(console, name, get_profile(name), fact or [])
        return
    if fact:
        raise ConfigError("--fact without a profile: name the one whose prompt is to be shown")
    rows = [_row(one, get_profile(one)) for one in profile_names()]
    columns = ("profile", "problems", "tokens", "graders", "cache", "source", "not known or not followed")
    console.print(plain_table(columns, [tuple(map(escape, row)) for row in rows]))
    _say(console, "trims benchmarks NAME shows one in full, with its prompt and what is published under it")


def _row(name: str, profile: Profile) -> tuple[str, ...]:
    source = profile.source.partition(";")[0]
    unknown = textwrap.shorten(profile.unknown or "", _SHOWN_UNKNOWN, placeholder=" …")
    problems = f"{profile.n_samples:,}: {profile.samples}"
    return (name, problems, _lengths(profile), ", ".join(profile.graders), profile.cache, source, unknown)


def _show(console: Console, name: str, profile: Profile, given: list[str]) -> None:
    facts = _facts(profile, given)
    prompt = profile.prompt
    lines = [("benchmark", profile.benchmark), ("problems", f"{profile.n_samples:,}: {profile.samples}")]
    if profile.skip:
        lines.append(("not asked", f"the first {profile.skip} rows, which the prompt shows"))
    lines += [
        ("examples", f"{len(prompt.shots)}" + (", as earlier turns" if prompt.shots_as == "turns" else "")),
        ("tokens", _lengths(profile)),
        ("stops before", ", ".join(map(repr, profile.stop_strings)) or "nothing but an end token"),
        ("sampling", _sampling(profile)),
        ("after the end", "not decoded" if profile.stop_at_end else "decoded too, as published"),
        ("cache", profile.cache),
        ("graders", ", ".join(profile.graders)),
        ("published by", profile.decoded or _NOT_STATED),
        ("source", profile.source),
        ("not known", profile.unknown or "nothing"),
    ]
    for about, text in lines:
        _say(console, f"{about}: {text}")
    _say_prompt(console, profile, facts, name)
    points = points_of(name)
    if points:
        console.print(
            plain_table(
                ("method", "model", "accuracy %", "per forward", "counted as", "cache", "hardware", "source"),
                [
                    tuple(
                        escape(_NOT_STATED if one is None else str(one))
                        for one in (
                            *(p.method, p.model, p.accuracy, p.tokens_per_forward, p.counting),
                            *(p.cache, p.hardware, p.source),
                        )
                    )
                    for p in points
                ],
            )
        )


def _say_prompt(console: Console, profile: Profile, facts: dict[str, str], name: str) -> None:
    """Every message under its role, and what the answer has already begun with."""
    for message in profile.prompt.messages(facts, name):
        role = message["role"] if profile.prompt.chat else "plain text, without a chat template"
        _say(console, f"--- {role}")
        _say(console, message["content"])
    begun = profile.prompt.prefix(facts, name)
    if begun:
        _say(console, "--- the answer begins with")
        _say(console, begun)
    _say(console, "---")


def _facts(profile: Profile, given: list[str]) -> dict[str, str]:
    """What fills the prompt; a placeholder that nothing is given for stands as it is."""
    facts = {one: f"{{{{{one}}}}}" for one in profile.prompt.placeholders}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in facts:
            remedy = nearest_name(key, facts) if equals else "expected NAME=TEXT"
            raise ConfigError(f"--fact {text!r:.60}: {remedy}")
        facts[key] = value
    return facts


def _lengths(profile: Profile) -> str:
    return f"{profile.gen_length} in blocks of {profile.block_length}"


def _sampling(profile: Profile) -> str:
    chosen = profile.sampling
    set_to = [f"{name} {getattr(chosen, name)}" for name in sorted(chosen.model_fields_set)]
    return ", ".join(set_to) or "temperature 0"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
