"""Time of the PSDS, and of sed_scores_eval: ``python -m benchmarks.psds``.

sed_scores_eval is not a dependency. To compare with it, install it where there is a C++ compiler,
with Cython and pandas below 3.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from hear_core.events.event import Event
from hear_core.events.timed_scores import ScoredRecording, TimedScores
from hear_core.metrics.psds import PSDS1, PSDS2, PsdsScenario, psds

HOP, FRAMES, PAIRS = 0.04, 250, 3
LABELS = tuple(f"class {index}" for index in range(10))


def random_set(seed: int, recordings: int = 40) -> list[ScoredRecording]:
    """Return recordings of ten seconds, whose scores follow their events, more or less."""
    random = np.random.default_rng(seed)
    edges = np.round(HOP * np.arange(FRAMES + 1), 6)
    found = []
    for number in range(recordings):
        events, active = [], np.zeros((FRAMES, len(LABELS)))
        for index, label in enumerate(LABELS):
            if random.random() < 0.2 or number == index:
                onset = round(random.uniform(0, 7), 3)
                offset = round(onset + random.uniform(0.2, 3), 3)
                events.append(Event(label, onset, offset))
                active[(edges[1:] > onset) & (edges[:-1] < offset), index] = 1
        noise = random.normal(size=(FRAMES + 16, len(LABELS))).cumsum(0)
        logits = 4 * active - 2.5 + 0.2 * (noise[16:] - noise[:-16])
        scores = TimedScores(LABELS, 1 / (1 + np.exp(-logits)), edges[:-1], edges[1:])
        found.append(ScoredRecording(scores, events))
    return found


def by_sed_scores_eval(recordings: Sequence[ScoredRecording], scenario: PsdsScenario) -> float:
    """Return the score that sed_scores_eval gives."""
    from sed_scores_eval import intersection_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe

    names = [f"{number:05}" for number in range(len(recordings))]
    pairs = list(zip(names, recordings, strict=True))
    scores = {
        name: create_score_dataframe(r.scores.scores.copy(), r.scores.edges, list(LABELS))
        for name, r in pairs
    }
    truth = {name: [(e.onset, e.offset, e.label) for e in r.events] for name, r in pairs}
    durations = {name: r.seconds for name, r in pairs}
    found = intersection_based.psds(
        scores,
        truth,
        durations,
        dtc_threshold=scenario.dtc,
        gtc_threshold=scenario.gtc,
        cttc_threshold=scenario.cttc,
        alpha_ct=scenario.alpha_ct,
        alpha_st=scenario.alpha_st,
        max_efpr=scenario.max_rate,
    )
    return float(found[0])


def ours_of(recordings: Sequence[ScoredRecording], scenario: PsdsScenario) -> float:
    """Return our score."""
    return psds(recordings, scenario).score


def timed(
    score: Callable[[Sequence[ScoredRecording], PsdsScenario], float],
    recordings: Sequence[ScoredRecording],
    scenario: PsdsScenario,
) -> tuple[float, float]:
    """Return a score and the seconds that it took."""
    start = time.perf_counter()
    return score(recordings, scenario), time.perf_counter() - start


def main() -> None:
    """Print the seconds of both for 30 sets, in alternation, and the largest difference."""
    sets = [random_set(seed) for seed in range(30)]
    print("| score | ours, seconds | sed_scores_eval | ratio | largest difference |")
    print("|---|---|---|---|---|")
    for name, scenario in (("PSDS1", PSDS1), ("PSDS2", PSDS2)):
        ours, theirs, worst = list[float](), list[float](), 0.0
        for _ in range(PAIRS):
            totals = [0.0, 0.0]
            for each in sets:
                first, seconds = timed(ours_of, each, scenario)
                totals[0] += seconds
                second, seconds = timed(by_sed_scores_eval, each, scenario)
                totals[1] += seconds
                worst = max(worst, abs(first - second))
            ours.append(totals[0])
            theirs.append(totals[1])
        ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        print(f"| {name} | {min(ours):.2f} | {min(theirs):.2f} | {ratio:.1f} | {worst:.1e} |")


if __name__ == "__main__":
    main()
