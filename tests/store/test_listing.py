"""Listings of many runs: what is looked at again, and that it comes to the same as looking at everything."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from store.paths import Listing, list_runs


@pytest.mark.parametrize("seed", range(4))
def test_a_listing_that_goes_on_from_another_is_as_a_new_one(tmp_path: Path, seed: int) -> None:
    """Directories that come, go, change their name or get their run.json, copies among them."""
    chance, listing, known = random.Random(seed), Listing(), dict[int, Path]()
    for _ in range(120):
        change(tmp_path, chance)
        listing, new = list_runs(tmp_path, known.get, listing), list_runs(tmp_path, known.get)
        assert listing == new
        assert list(listing.runs) == sorted(listing.runs)
        known = listing.runs
    assert listing.runs
    assert listing.refused


def change(folder: Path, chance: random.Random) -> None:
    there = sorted(folder.iterdir())
    lacking = [path for path in there if path.is_dir() and not (path / "run.json").exists()]
    match chance.choice(("come", "come", "whole", "go", "rename", "file")):
        case "come":
            new = folder / f"{chance.randrange(9):06d}-{chance.choice('abc')}"
            new.mkdir(exist_ok=True)
            if chance.random() < 0.5:
                (new / "run.json").write_text("{}")
        case "whole" if lacking:
            (chance.choice(lacking) / "run.json").write_text("{}")
        case "go" if there:
            (gone := chance.choice(there)).rename(folder.parent / f"gone-{chance.random()}-{gone.name}")
        case "rename" if there:
            new = folder / f"{chance.randrange(9):06d}-renamed"
            if not new.exists():
                chance.choice(there).rename(new)
        case "file":
            (folder / f"{chance.randrange(9):06d}-file").touch()


def test_what_has_not_changed_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (run := tmp_path / f"{number:06d}-run").mkdir()
        (run / "run.json").write_text("{}")
    first = list_runs(tmp_path)
    (tmp_path / "000050-run").mkdir()
    looked: list[str] = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: looked.append(path.parent.name) or exists(path))
    second = list_runs(tmp_path, before=first)
    assert looked == ["000050-run"]
    assert second.runs == first.runs
    assert all(second.runs[number] is path for number, path in first.runs.items())
    assert list(second.refused) == [tmp_path / "000050-run"]


def test_each_directory_with_a_number_of_another_is_given_one_that_is_free(tmp_path: Path) -> None:
    runs, removed = tmp_path / "runs", tmp_path / "removed"
    for name in ("000003-a", "000003-b2", "000003-c", "000007-d"):
        make(runs / name)
    make(removed / "000009-gone~1764412345")
    first = list_runs(runs)
    assert moves(first) == {"000003-b2": "000010-b2", "000003-c": "000011-c"}
    make(runs / "000010-new")
    assert moves(list_runs(runs, before=first)) == {"000003-b2": "000011-b2", "000003-c": "000012-c"}


def make(run: Path) -> None:
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")


def moves(listing: Listing) -> dict[str, str]:
    """What it advises to call the directories that are not read."""
    found = [re.search(r"\(mv (\S+) (\S+)\)", why) for why in listing.refused.values()]
    return {one[1]: one[2] for one in found if one}
