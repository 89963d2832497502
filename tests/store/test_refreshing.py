"""When a refresh began: kept over crashes of the same command, forgotten after a good end."""

from __future__ import annotations

from pathlib import Path

import pytest

from trims_core.store import refreshing

COMMAND = ["run", "a.yaml", ["k=4"], ["scores"]]


def began(root: Path, command: list[object] | None = None) -> str | None:
    """What a run with --refresh gets, which then ends well."""
    with refreshing(root, command or COMMAND) as since:
        pass
    return since


def left_by_a_crash(root: Path) -> str | None:
    """The moment that a run which died had got."""
    seen: list[str | None] = []
    with pytest.raises(KeyError), refreshing(root, COMMAND) as since:
        seen.append(since)
        raise KeyError
    return seen[0]


def test_the_same_command_goes_on_until_it_has_ended_well(tmp_path: Path) -> None:
    first = left_by_a_crash(tmp_path)
    assert first is not None
    assert left_by_a_crash(tmp_path) == first
    assert began(tmp_path) == first
    anew = began(tmp_path)
    assert anew is not None
    assert anew > first


def test_another_command_begins_by_itself(tmp_path: Path) -> None:
    first = left_by_a_crash(tmp_path)
    assert began(tmp_path, [*COMMAND[:-1], ["buckets"]]) != first
    assert began(tmp_path) == first


def test_without_refresh_nothing_is_asked_for_and_nothing_is_written(tmp_path: Path) -> None:
    with refreshing(tmp_path, COMMAND, refresh=False) as since:
        assert since is None
    assert list(tmp_path.iterdir()) == []


def test_a_good_end_of_the_same_command_without_refresh_ends_it_too(tmp_path: Path) -> None:
    first = left_by_a_crash(tmp_path)
    with refreshing(tmp_path, COMMAND, refresh=False) as since:
        assert since is None
    assert began(tmp_path) != first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"began": 3}', '{"began": "soon"}', '{"command": []}'])
def test_a_note_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    first = left_by_a_crash(tmp_path)
    (note,) = (tmp_path / ".refreshing").iterdir()
    note.write_text(text)
    again = began(tmp_path)
    assert again is not None
    assert again != first
    assert list((tmp_path / ".refreshing").iterdir()) == []


def test_two_runs_of_one_command_share_the_moment(tmp_path: Path) -> None:
    with refreshing(tmp_path, COMMAND) as one, refreshing(tmp_path, COMMAND) as other:
        assert one == other
