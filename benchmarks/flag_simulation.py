"""How often the flags warn of made-up runs whose truth is known, and how often an interval holds it.

    python -m benchmarks.flag_simulation --runs 1000

calls the detectors of engine.flags on every run, look by look, and prints a table: false warnings where nothing is
wrong, power where something is, and the coverage of intervals. Every regime has a seed of its own, so that a table is
the same wherever it is made, and one regime can be repeated alone (`--only`).
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.flag_truth import upper_bound
from engine.flags import forgetting, overfitting
from engine.flags.history import History
from engine.flags.multiplicity import HITS_IN_A_ROW

Curve = Callable[[np.ndarray], np.ndarray]  # from the share of the run that is done to nats per token

STEPS = 1000  # of a run
# Real runs had -0.7 to 0.6.
SKEWNESS = {"left": -2.0, "right": 2.0, "somewhat left": -1.0, "somewhat right": 1.0}


@dataclass(frozen=True)
class Regime:
    """What the losses of a run are made of; nats per token.

    An example's loss is `curve`, and what it does by itself: `sd` is the standard deviation of its change between the
    ends of a run, in the shares `wander` (a random walk), `scatter` (each look by itself) and the rest (slopes: a walk
    in one direction, as fast as the curve rises).
    """

    name: str
    curve: Curve
    n: int = 100
    looks: int = 51
    sd: float = 0.15
    wander: float = 0.5
    scatter: float = 0.25
    shape: str = "normal"  # of what examples do by themselves
    lengths: str = "uniform"
    documents: int = 0  # that the examples are from; 0: each is one
    alike: float = 0.0  # intraclass correlation within a document
    wobble: float = 0.0  # of the whole model, at each look
    suite: str = "heldout"
    slices: int = 1
    goal: float | None = None  # power that is wanted; None: nothing is wrong


# ---- curves


def flat(t: np.ndarray) -> np.ndarray:
    return 0 * t


def falling(t: np.ndarray) -> np.ndarray:
    return np.exp(-5 * t) - 1


def plateau(t: np.ndarray) -> np.ndarray:
    return -np.minimum(t, 0.3)


def at(rise: float) -> Curve:
    """At once, and for all of the run."""
    return lambda t: rise * (t > 0)


def turning(rise: float, best: float = 0.2) -> Curve:
    """Down to a best, then up, less and less as the learning rate falls."""
    return lambda t: np.where(t < best, -t / best, rise * (1 - (1 - (t - best) / (1 - best)) ** 2) - 1)


def rising(rise: float) -> Curve:
    """Little by little, from the start."""
    return lambda t: rise * t


def late(rise: float, start: float = 0.7) -> Curve:
    return lambda t: rise * np.clip((t - start) / (1 - start) * 2, 0, 1)


def sawtooth(height: float, teeth: int = 5) -> Curve:
    """Epochs: within each the loss rises, and it falls at its end."""
    return lambda t: height * (t * teeth % 1)


def hump(height: float, start: float, end: float) -> Curve:
    """Up and down again between two shares of a run, and a falling loss around it."""
    return lambda t: (
        height * np.sin(np.pi * np.clip((t - start) / (end - start), 0, 1)) - np.maximum(0, t - end)
    )


# ---- runs


def make(regime: Regime, rng: np.random.Generator) -> History:
    """One run of a regime."""
    n, looks = regime.n, regime.looks
    t = np.linspace(0, 1, looks)
    tokens = _tokens(regime.lengths, n, rng)
    curve = regime.curve(t) + regime.wobble * rng.standard_normal(looks)
    document = rng.integers(0, regime.documents, n) if regime.documents else np.arange(n)

    def draw(count: int) -> np.ndarray:
        own = _draw(regime.shape, (count, n), rng)
        if not regime.alike:
            return own
        shared = _draw(regime.shape, (count, regime.documents), rng)
        return np.sqrt(1 - regime.alike) * own + np.sqrt(regime.alike) * shared[:, document]

    slopes = 1 - regime.wander - regime.scatter
    walk = np.vstack([np.zeros(n), np.cumsum(draw(looks - 1), axis=0)]) * np.sqrt(regime.wander / (looks - 1))
    apart = draw(looks) * np.sqrt(regime.scatter / 2)
    up = np.maximum(regime.curve(t), regime.curve(t).min()) - regime.curve(t).min()
    progress = np.where(t >= t[np.argmin(regime.curve(t))], up / max(up[-1], 1e-9), 0) if up[-1] > 1e-9 else t
    own = walk + apart + progress[:, None] * draw(1) * np.sqrt(max(0.0, slopes))
    nll = (2 + curve[:, None] + regime.sd * own) * tokens
    names = tuple(map(str, range(n)))
    slices = tuple(str(i % regime.slices) for i in range(n)) if regime.slices > 1 else ()
    documents = tuple(f"document {d}" for d in document) if regime.documents else ()
    steps = tuple(np.round(t * STEPS).astype(int).tolist())
    return History(regime.suite, steps, names, nll, tokens, slices=slices, documents=documents)


def _tokens(lengths: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if lengths == "equal":
        return np.full(n, 40)
    if lengths == "lognormal":
        return np.maximum(1, np.round(40 * np.exp(rng.standard_normal(n)))).astype(int)
    if lengths == "mixed":  # a tenth of long texts among short ones
        return np.where(np.arange(n) % 10 == 0, 2000, 40)
    return rng.integers(8, 60, n)


def _draw(shape: str, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Numbers with mean 0 and variance 1."""
    if shape == "t3":
        return rng.standard_t(3, size) / np.sqrt(3)
    if shape in SKEWNESS:  # of a gamma distribution
        peak = 4 / SKEWNESS[shape] ** 2
        return np.sign(SKEWNESS[shape]) * (rng.gamma(peak, size=size) - peak) / np.sqrt(peak)
    return rng.standard_normal(size)


def warned(run: History) -> bool:
    """Whether the run would have had a warning: hits at two looks in a row."""
    if run.suite == "general":
        hits = forgetting.hits(run)["warn"]
    else:
        hits = overfitting.hits(run, overfitting.WARM_UP * STEPS)["warn"]
    return any(all(hits[k : k + HITS_IN_A_ROW]) for k in range(len(hits) - HITS_IN_A_ROW + 1))


def rate(regime: Regime, runs: int) -> float:
    """The share of runs that are warned of."""
    rng = np.random.default_rng(zlib.crc32(regime.name.encode()))
    return sum(warned(make(regime, rng)) for _ in range(runs)) / runs


def coverage(regime: Regime, runs: int) -> tuple[float, float]:
    """How often the 95% interval of the last look's change holds the truth, and how often it lies wholly above it."""
    rng = np.random.default_rng(zlib.crc32(regime.name.encode()))
    true = float(regime.curve(np.array([0.0, 1.0])) @ (-1, 1))
    found = [make(regime, rng).change(0, 1).interval() for _ in range(runs)]
    return sum(lo <= true <= hi for lo, hi in found) / runs, sum(lo > true for lo, _ in found) / runs


# ---- regimes

RISES = Regime("rise of 0.3", turning(0.3), sd=0.366, wander=0.3, scatter=0.1)
NULL_CURVES: dict[str, Curve] = {
    "flat": flat,
    "falling": falling,
    "plateau": plateau,
    "drift of 0.01": rising(0.01),
    "sawtooth of 0.01": sawtooth(0.01),
}
NOISE: dict[str, dict[str, float]] = {
    "walk": {"wander": 1.0, "scatter": 0.0},
    "scatter": {"wander": 0.0, "scatter": 1.0},
    "mixed": {"wander": 0.5, "scatter": 0.25},
}


def null_overfitting() -> Iterator[Regime]:
    """Nothing is wrong with the held-out loss."""
    for name, curve in NULL_CURVES.items():
        for n, looks in ((30, 60), (300, 60), (60, 11)):
            yield Regime(f"{name}, {n} rows, {looks} looks", curve, n, looks)
    for name, noise in NOISE.items():
        for n, looks in ((12, 51), (30, 11), (100, 60)):
            yield Regime(f"flat, {name}, {n} rows, {looks} looks", flat, n, looks, sd=0.3, **noise)  # type: ignore[arg-type]
    common = Regime("", flat, 100, 60)
    for shape in ("t3", "left", "right"):
        for n in (30, 100):
            yield replace(common, name=f"flat, {shape}, {n} rows", n=n, shape=shape)
    for lengths in ("lognormal", "mixed"):
        for n in (60, 300):
            yield replace(common, name=f"flat, {lengths} lengths, {n} rows", n=n, lengths=lengths)
    yield replace(common, name="flat, 10 documents, alike 0.3", n=300, documents=10, alike=0.3)
    yield replace(common, name="flat, 30 documents, alike 0.1", n=300, documents=30, alike=0.1)
    yield replace(common, name="plateau, 200 looks", curve=plateau, looks=200)
    for wobble in (0.005, 0.01):
        for name, curve in (("flat", flat), ("falling", falling), ("plateau", plateau)):
            for n, looks in ((100, 60), (300, 60), (300, 11)):
                title = f"wobble of {wobble:g}, {name}, {n} rows, {looks} looks"
                yield Regime(title, curve, n, looks, wobble=wobble)
    for height in (0.02, 0.05):
        for looks in (11, 60):
            yield Regime(
                f"bump of {height:g} in the first tenth, {looks} looks", hump(height, 0, 0.1), 300, looks
            )
    yield Regime("double descent of 0.02, 100 rows, 60 looks", hump(0.02, 0.2, 0.6), 100, 60)


def power_overfitting() -> Iterator[Regime]:
    """The held-out loss rises. With the standard error of real runs, 0.052 nats per token with 60 rows: `RISES`."""
    for n, looks, goal in (
        (12, 11, None),
        (30, 11, 0.8),
        (30, 51, 0.8),
        (30, 60, 0.8),
        (60, 11, 0.95),
        (60, 60, 0.95),
    ):
        for shape in ("normal", "right"):
            name = f"rise of 0.3, {shape}, {n} rows, {looks} looks"
            yield replace(RISES, name=name, n=n, looks=looks, shape=shape, goal=goal)
    slow = Regime("", rising(0.05), 300, 60, 0.144, 1.0, 0.0, goal=0.9)
    yield replace(slow, name="slow rise of 0.05, 300 rows, 60 looks")
    yield replace(slow, name="slow rise of 0.05, 300 rows, 11 looks", looks=11)
    yield replace(
        slow, name="slow rise of 0.05, examples that scatter, 300 rows, 60 looks", scatter=0.25, wander=0.5
    )
    for wobble in (0.005, 0.01):
        yield replace(
            slow, name=f"slow rise of 0.05, wobble of {wobble:g}, 300 rows, 60 looks", wobble=wobble
        )
        name = f"rise of 0.3, wobble of {wobble:g}, 60 rows, 60 looks"
        yield replace(RISES, name=name, n=60, looks=60, wobble=wobble, goal=0.95)
    yield replace(
        RISES, name="rise of 0.3 from the first look on, 60 rows", curve=rising(0.3), n=60, goal=0.95
    )


def conflicts() -> Iterator[Regime]:
    """What is warned of, as it should be by the rise that there is, and passes by itself."""
    yield Regime("bump of 0.05 in the first third, 300 rows, 60 looks", hump(0.05, 0, 0.35), 300, 60)
    yield Regime("double descent of 0.02, 300 rows, 60 looks", hump(0.02, 0.2, 0.6), 300, 60)
    yield Regime("double descent of 0.1, 300 rows, 60 looks", hump(0.1, 0.2, 0.6), 300, 60)


def null_forgetting() -> Iterator[Regime]:
    """General text is worse by exactly the margin, from the first look to the last."""
    margin = at(forgetting.MARGINS["warn"])
    common = Regime("", margin, 100, 51, suite="general")
    for name, noise in NOISE.items():
        for looks in (11, 60):
            yield replace(common, name=f"margin, {name}, {looks} looks", looks=looks, **noise)  # type: ignore[arg-type]
    for shape in ("t3", "left", "right"):
        yield replace(common, name=f"margin, {shape}", shape=shape)
    for lengths in ("lognormal", "mixed"):
        for n in (100, 300):
            yield replace(common, name=f"margin, {lengths} lengths, {n} rows", n=n, lengths=lengths)
    yield replace(common, name="margin, 3 slices, 300 rows", n=300, slices=3)
    yield replace(common, name="margin, 20 rows", n=20)
    for documents, alike in ((10, 0.3), (30, 0.1), (150, 0.99)):
        name = f"margin, {documents} documents of 300 rows, alike {alike:g}"
        yield replace(common, name=name, n=300, documents=documents, alike=alike)


def power_forgetting() -> Iterator[Regime]:
    common = Regime("", rising(0.11), 100, 51, suite="general", goal=0.8)
    yield replace(common, name="drift to 0.11, 100 rows")
    yield replace(common, name="drift to 0.11 from 70% of the run on, 100 rows", curve=late(0.11))
    yield replace(common, name="drift to 0.11, 30 documents of 300 rows", n=300, documents=30, alike=0.1)


def intervals() -> Iterator[Regime]:
    """A change of 0.05 between two looks."""
    common = Regime("", at(0.05), looks=2, wander=0.0, scatter=1.0)
    for n in (12, 30, 100, 300):
        for lengths in ("equal", "uniform", "lognormal", "mixed"):
            yield replace(common, name=f"{n} rows, {lengths} lengths", n=n, lengths=lengths)
    for n in (20, 30, 60, 100, 300):
        for shape in ("left", "right", "t3"):
            yield replace(common, name=f"{n} rows, {shape}", n=n, shape=shape, wander=1.0, scatter=0.0)
    for n in (60, 100, 300):
        for shape in ("somewhat left", "somewhat right"):
            name = f"{n} rows, {shape}, lognormal lengths"
            yield replace(common, name=name, n=n, shape=shape, lengths="lognormal", wander=1.0, scatter=0.0)
    for documents, alike in ((10, 0.3), (30, 0.1), (30, 0.3), (150, 0.99)):
        for lengths in ("uniform", "lognormal"):
            name = f"{documents} documents of 300 rows, alike {alike:g}, {lengths} lengths"
            yield replace(common, name=name, n=300, documents=documents, alike=alike, lengths=lengths)


POWER = {"Overfitting": power_overfitting, "Forgetting": power_forgetting, "Rises that pass": conflicts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", default="", help="regimes with this in their name")
    options = parser.parse_args()
    started, runs = time.perf_counter(), options.runs
    nulls = {"Overfitting": null_overfitting, "Forgetting": null_forgetting}
    for title, regimes in nulls.items():
        print(f"\n## {title}: false warnings where nothing is wrong, of {runs} runs each\n")
        print("| regime | warned | 95% bound |\n|---|---|---|")
        for regime in regimes():
            if options.only in regime.name:
                share = rate(regime, runs)
                print(
                    f"| {regime.name} | {share:.1%} | {upper_bound(round(share * runs), runs):.1%} |",
                    flush=True,
                )
    for title, regimes in POWER.items():
        print(f"\n## {title}: power, of {runs} runs each\n\n| regime | warned | goal |\n|---|---|---|")
        for regime in regimes():
            if options.only in regime.name:
                print(f"| {regime.name} | {rate(regime, runs):.0%} | {regime.goal or '–'} |", flush=True)
    print(f"\n## Intervals of 95%, of {4 * runs} changes each\n\n| regime | holds | above |\n|---|---|---|")
    for regime in intervals():
        if options.only in regime.name:
            holds, above = coverage(regime, 4 * runs)
            print(f"| {regime.name} | {holds:.1%} | {above:.1%} |", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
