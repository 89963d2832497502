"""The report as one HTML page that needs nothing else: data, styles, scripts and the chart library inside.

A Content-Security-Policy in the page forbids every load and every script but those it names by their sha256,
so that a browser enforces it. Data are JSON that no markup can break out of; the scripts (web/) show texts of
corpora and models as text alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, NamedTuple

from jinja2 import Environment, StrictUndefined

from trims_core.report.appearance import DARK, LIGHT, Theme, style_variables
from trims_core.report.shown import shown_of

SCRIPTS: Final = (
    "text.js",
    "dom.js",
    "data.js",
    "numbers.js",
    "theme.js",
    "tables.js",
    "charts.js",
    "headline.js",
    "curves.js",
    "samples.js",
    "route.js",
    "canvas.js",
    "panels.js",
    "player.js",
    "comparisons.js",
    "order.js",
    "analysis.js",
    "buckets.js",
    "training.js",
    "ablations.js",
    "caches.js",
    "provenance.js",
    "main.js",
)
"""In the order in which they are read: each uses those before it."""
_ESCAPED: Final = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}


class Library(NamedTuple):
    """A library in web/vendor/."""

    name: str
    version: str
    source: str
    """Where its file is from."""
    file: str
    sha256: str
    licence: str
    licence_files: tuple[str, ...]


def libraries() -> list[Library]:
    """The libraries of the page, in the order in which they are read."""
    rows = json.loads(_resource("vendor/libraries.json"))
    return [Library(**{**row, "licence_files": tuple(row["licence_files"])}) for row in rows]


def render_page(results: Mapping[str, Any], samples: Mapping[str, Any], *, served: bool = False) -> str:
    """The page's HTML.

    Args:
        results: what results.json holds. samples: what samples.json holds.
        served: it may ask the server that it comes from for further samples.
    """
    scripts = [*map(_library_script, libraries()), *map(_resource, SCRIPTS)]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:;"
    policy += " connect-src 'self';" if served else ""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html")).render(
        title=results["title"],
        name=results["name"],
        policy=f"{policy} base-uri 'none'; form-action 'none'",
        style=f"{_variables(results)}\n{_resource('page.css')}",
        scripts=scripts,
        is_served=served,
        data={
            name: json_for_html(what)
            for name, what in (
                ("results", results),
                ("samples", samples),
                ("shown", shown_of(results)),
                ("libraries", [one._asdict() for one in libraries()]),
            )
        },
    )


def json_for_html(value: Any) -> str:
    """JSON that stays whole inside an element `script`: no tag, comment or separator of lines is in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED)


def _variables(results: Mapping[str, Any]) -> str:
    """The themes: the system's choice, unless the reader chose; paper is light."""
    caches = dict.fromkeys(cache for found in results["tasks"].values() for cache in found["caches"])

    def of(theme: Theme) -> str:
        return style_variables(results["methods"], list(caches), theme)

    return (
        f":root {{ color-scheme: light; {of(LIGHT)} }}\n@media screen and (prefers-color-scheme: dark)"
        f" {{ :root:not([data-theme=light]) {{ {of(DARK)} }} }}\n"
        f"@media screen {{ :root[data-theme=dark] {{ {of(DARK)} }} }}"
    )


def _library_script(library: Library) -> str:
    """The library under its licences, which ask to stand in every copy."""
    licences = "\n\n".join(_resource(f"vendor/{name}").strip() for name in library.licence_files)
    return f"/*!\n{library.name} {library.version}\n\n{licences}\n*/\n{_resource(f'vendor/{library.file}')}"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _resource(name: str) -> str:
    return resources.files("trims_core.report").joinpath(f"web/{name}").read_text(encoding="utf-8")
