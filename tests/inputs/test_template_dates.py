"""A template that asks for today gets the day of the settings, whatever day it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import ChainWorld, rows, table
from fakes.teacher import write_tokenizer
from fakes.templates import GPT_OSS, LLAMA3

from trims_core.config import ScoresConfig, StudentConfig, TemplateConfig
from trims_core.errors import ConfigError
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.settings import parse_config

NOW = "{{ strftime_now('%d %b %Y %H:%M') }}" + LLAMA3


@pytest.mark.parametrize(
    ("template", "wanted"),
    [(GPT_OSS, "date: 2024-07-26<"), (LLAMA3, "Date: 26 Jul 2024<"), (NOW, "26 Jul 2024 00:00")],
)
def test_today_is_the_day_of_the_settings(template: str, wanted: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, template)))
    asked = [{"role": "user", "content": "Hi"}]
    assert wanted in tokenizer.decode(Renderer(tokenizer).prompt_ids(asked))
    other = Renderer(tokenizer, TemplateConfig(template_date="2031-01-02"))
    assert "2031" in tokenizer.decode(other.prompt_ids(asked))


def test_the_day_is_in_the_keys_of_what_reads_it(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(4))
    write_tokenizer(tmp_path / "teacher", GPT_OSS)
    found: dict[str, Any] = {}
    for day in ("2024-07-26", "2031-01-02"):
        done = world.run("aligned", scores={"template_date": day}, student={"template_date": day})
        found[day] = {stage: done[stage].artifact.fingerprint for stage in ("scores", "aligned")}
        found[day]["nats"] = table(done["scores"].artifact, "scores")["nll_nats"].to_pylist()
    first, second = found.values()
    assert all(first[name] != second[name] for name in first)
    assert (
        ScoresConfig(model="m", template_date="2024-07-26").result_fields()
        == ScoresConfig(model="m").result_fields()
    )


def test_a_day_is_read_as_yaml_gives_it_and_nothing_else_is(tmp_path: Path) -> None:
    from datetime import date

    assert StudentConfig.model_validate({"model": "m", "template_date": date(2030, 5, 6)}).template_date == (
        "2030-05-06"
    )
    raw = {"name": "x", "corpus": {"path": "a"}, "student": {"model": "s", "template_date": "26 Jul 2024"}}
    raw |= {"scores": {"model": "t"}, "sweep": {"tasks": {"d": {"benchmark": "demo"}}}}
    with pytest.raises(ConfigError, match=r"student\.template_date: '26 Jul 2024' is no day; expected YYYY"):
        parse_config(raw)
