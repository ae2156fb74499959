"""Are the flags right? Plants runs, trains them, and judges every detector: `python -m benchmarks.flags`.

    python -m benchmarks.flags run --root ~/flags --hours 8     # resumable; run it twice to use two cores
    python -m benchmarks.flags judge --root ~/flags             # a minute; prints tables, writes a picture
    python -m benchmarks.flags clean --root ~/flags             # 200 sane runs: what is warned of for nothing?
    python -m benchmarks.flags leaks --root ~/flags             # overlap of training data with a suite

`--plants second` are those of a second look (flag_regimes.py). What counts as true is written in docs/flags.md.
Runs are made seed by seed, so that a part of them is a fair one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.flag_plants import PLANTS, Plant, cache_path
from benchmarks.flag_regimes import SECOND
from finetui.lock import Lock

SETS = {"first": PLANTS, "second": SECOND, "all": PLANTS + SECOND}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "judge", "clean", "leaks"))
    parser.add_argument("--root", type=Path, required=True, help="where data, models and arrays are kept")
    parser.add_argument(
        "--plants", choices=SETS, default="first", help="which runs; the first is the default"
    )
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 or 1000; not of the sane runs")
    parser.add_argument("--only", default="", help="plants whose name contains this")
    parser.add_argument("--hours", type=float, default=1e9, help="begin no run after so long")
    parser.add_argument("--picture", type=Path, help="SVG of the runs that each detector told wrong")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    root = options.root.expanduser().absolute()
    plants = tuple(plant for plant in SETS[options.plants] if options.only in plant.name)
    if options.what == "run":
        run(root, [(plant, seed) for seed in seeds for plant in plants], options.hours)
    elif options.what == "clean":
        from benchmarks.flag_clean import clean_runs, judge_clean

        run(root, [(p, seed) for p, seed in clean_runs() if options.only in p.name], options.hours)
        judge_clean(root)
    elif options.what == "judge":
        from benchmarks.flag_judge import judge
        from benchmarks.flag_tables import print_groups, print_sizes

        if told := judge(root, plants, seeds, options.picture):
            print()
            print_groups(told, plants)
            print_sizes(root, told)
    else:
        from benchmarks.flag_leaks import measure

        measure(root, seeds)


def run(root: Path, wanted: Sequence[tuple[Plant, int]], hours: float) -> None:
    """Make what is not there yet; several processes share the work."""
    from benchmarks.flag_run import make
    from engine.models.quiet import quiet_libraries

    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run the same command again to go on"))
    started = time.time()
    for plant, seed in wanted:
        path = cache_path(root, plant, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        if time.time() - started > 3600 * hours:
            print("the time is up; run the same command again to go on")
            return
        with Lock(path.with_suffix(".lock")).held(wait_s=0) as ours:
            if path.exists() or not ours:  # another process has made it, or is about to
                continue
            before = time.time()
            make(root, plant, seed)
            print(f"{plant.name} seed {seed}: {time.time() - before:.0f} s", flush=True)
    there = sum(cache_path(root, plant, seed).exists() for plant, seed in wanted)
    print(f"{there} of {len(wanted)} runs are there")


if __name__ == "__main__":
    main()
