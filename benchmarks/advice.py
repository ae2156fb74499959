"""Is the advice worth following? Plants runs that go wrong and follows what their flags advise.

    python -m benchmarks.advice run --root ~/advice --seeds 0-1 --hours 8    # resumable; run it twice to use two cores
    python -m benchmarks.advice judge                                        # seconds; prints the table

Results are kept in benchmarks/results/advice, a file for each planted run, and belong to the repository: days of
processor time. Data, models and runs under way are in --root. With `--down`, a list is followed down to the first
action that does, as `fix` would, and no further: a third of the time.

For each planted run with a flag for forgetting or overfitting, every action that a key of the recipe or a command
stands for is followed by itself, and beside them L2-SP, replay of the base model's own texts, and training of the upper
half of the blocks alone. Goals, on at least 40 such runs, from the first action down: the flag goes in 90%, and 90% of
the gain stays in 80%.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flag_plants import PLANTS
from finetui.lock import Lock

RESULTS = Path(__file__).parent / "results" / "advice"
GOES, STAYS, RUNS = 0.9, 0.8, 40  # the goals
KEPT = 0.9  # of the planted run's gain
SHOWN = (
    "action",
    "runs",
    "flag goes",
    "90% stays",
    "both",
    "gain kept",
    "drift before",
    "drift after",
    "minutes",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "judge"))
    parser.add_argument("--root", type=Path, default=Path("~/advice"), help="where data and models are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept")
    parser.add_argument(
        "--down", action="store_true", help="follow a list down to the first action that does"
    )
    parser.add_argument("--seeds", default="0-1", help="such as 0-1 or 7")
    parser.add_argument("--only", default="", help="plants whose name contains this")
    parser.add_argument("--hours", type=float, default=1e9, help="begin no planted run after so long")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    results = options.results.expanduser().absolute()
    if options.what == "run":
        root = options.root.expanduser().absolute()
        run(root, results, seeds, options.only, options.hours, down=options.down)
    else:
        judge(results)


def run(root: Path, results: Path, seeds: range, only: str, hours: float, *, down: bool) -> None:
    """Make what is not there yet; several processes share the planted runs."""
    from benchmarks.advice_run import cache_path, make
    from engine.models.quiet import quiet_libraries

    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run the same command again to go on"))
    started = time.time()
    for plant, seed in ((plant, seed) for seed in seeds for plant in PLANTS if only in plant.name):
        if time.time() - started > 3600 * hours:
            print("the time is up; run the same command again to go on")
            return
        locks = root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with Lock(locks / f"{plant.name}-{seed}").held(wait_s=0) as ours:
            if ours:
                path = cache_path(results, plant, seed)
                make(root, path, plant, seed, lambda text: print(text, flush=True), down=down)


def judge(results: Path) -> None:
    """Print what each action did, and what following them in order does."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    flagged = [one for one in found if _stands(one["results"][""])]
    print(f"{len(found)} planted runs, {len(flagged)} with a flag for forgetting or overfitting\n")
    names = dict.fromkeys(_kind(name) for one in flagged for name in one["results"] if name)
    rows = [_row(name, flagged, name) for name in names]
    for name, follow in (("first action", _first), ("down the list", _down)):
        chosen = [(one, followed) for one in flagged if (followed := follow(one))]
        rows.append(_line(name, chosen))
    _print(rows)
    goes, stays = rows[-1]["flag goes"], rows[-1]["90% stays"]
    print(
        f"\ngoals: {RUNS} runs or more: {len(flagged)}; flag goes {GOES:.0%}: {goes}; 90% stays {STAYS:.0%}: {stays}"
    )


def _stands(result: Mapping[str, Any]) -> bool:
    return bool(result["flags"])


def _goes(result: Mapping[str, Any]) -> bool:
    return not result["flags"]


def _kept(planted: Mapping[str, Any], result: Mapping[str, Any]) -> float:
    """The share of the planted run's gain that stays; where that gained nothing, whether no less was gained."""
    if not np.isfinite(result["gain"]):
        return 0.0
    if planted["gain"] <= 0:
        return float(result["gain"] >= planted["gain"])
    return float(result["gain"] / planted["gain"])


def does(planted: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether an action makes the flag go and keeps the gain."""
    return _goes(result) and _kept(planted, result) >= KEPT


def _kind(name: str) -> str:
    """An action whatever its value: `train.lr`, `data.replay.ratio`."""
    return ", ".join(sorted(part.partition("=")[0] for part in name.split(", ") if "source" not in part))


def _row(name: str, flagged: Sequence[Mapping[str, Any]], kind: str) -> dict[str, str]:
    chosen = [
        (one, result)
        for one in flagged
        for key, result in one["results"].items()
        if key and _kind(key) == kind
    ]
    return _line(name, chosen)


def _first(one: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((one["results"][name] for name, *_ in one["actions"] if name in one["results"]), None)


def _down(one: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first action that makes the flag go and keeps the gain, as `fix` goes down the list; else the first."""
    results = [one["results"][name] for name, *_ in one["actions"] if name in one["results"]]
    good = [result for result in results if does(one["results"][""], result)]
    return next(iter([*good, *results]), None)


def _line(name: str, chosen: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, str]:
    goes = [_goes(result) for _, result in chosen]
    kept = [_kept(one["results"][""], result) for one, result in chosen]
    both = [a and b >= KEPT for a, b in zip(goes, kept, strict=True)]
    finite = [(one, result) for one, result in chosen if np.isfinite(result["drift"])]
    before = [one["results"][""]["drift"] for one, _ in finite]
    after = [result["drift"] for _, result in finite]
    seconds = [result["seconds"] for _, result in chosen]
    cells = (
        name,
        str(len(chosen)),
        _share(goes),
        _share([one >= KEPT for one in kept]),
        _share(both),
        f"{np.median(kept):.0%}" if kept else "–",
        f"{np.median(before):+.3f}" if before else "–",
        f"{np.median(after):+.3f}" if after else "–",
        f"{np.median(seconds) / 60:.1f}" if seconds else "–",
    )
    return dict(zip(SHOWN, cells, strict=True))


def _share(hits: Sequence[bool]) -> str:
    return f"{sum(hits)}/{len(hits)} {np.mean(hits):.0%}" if hits else "–"


def _print(rows: Sequence[Mapping[str, str]]) -> None:
    print("| " + " | ".join(SHOWN) + " |")
    print("|---" * len(SHOWN) + "|")
    for row in rows:
        print("| " + " | ".join(row[name] for name in SHOWN) + " |")


if __name__ == "__main__":
    main()
