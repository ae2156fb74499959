"""Are the flags right? Plants runs, trains them, and judges every detector: `python -m benchmarks.flags`.

    python -m benchmarks.flags run --root ~/flags --hours 8     # resumable; run it twice to use two cores
    python -m benchmarks.flags judge --root ~/flags             # seconds; prints tables, writes a picture
    python -m benchmarks.flags leaks --root ~/flags             # overlap of training data with a suite

What counts as true is written in docs/flags.md. Runs are made seed by seed, so that a part of them is a fair one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from benchmarks.flag_plants import PLANTS
from finetui.lock import Lock


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "judge", "leaks"))
    parser.add_argument("--root", type=Path, required=True, help="where data, models and arrays are kept")
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 or 1000")
    parser.add_argument("--only", default="", help="plants whose name contains this")
    parser.add_argument("--hours", type=float, default=1e9, help="begin no run after so long")
    parser.add_argument("--picture", type=Path, help="SVG of the runs that each detector told wrong")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    root = options.root.expanduser().absolute()
    if options.what == "run":
        run(root, seeds, options.only, options.hours)
    elif options.what == "judge":
        from benchmarks.flag_judge import judge

        judge(root, seeds, options.only, options.picture)
    else:
        from benchmarks.flag_leaks import measure

        measure(root, seeds)


def run(root: Path, seeds: range, only: str, hours: float) -> None:
    """Make what is not there yet; several processes share the work."""
    from benchmarks.flag_run import cache_path, make
    from engine.models.quiet import quiet_libraries

    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run the same command again to go on"))
    started = time.time()
    wanted = [(plant, seed) for seed in seeds for plant in PLANTS if only in plant.name]
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
