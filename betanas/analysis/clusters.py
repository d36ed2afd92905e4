"""The best trials, clustered: which kinds of kernel do well?

Hierarchical clustering with Ward's criterion on standardised parameters, as in the report that the
method is from (A. Peaston, 2022, Tables 5 and 6): the best 30 trials, 4 clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage

from betanas.arrays import FloatArray, IntArray
from betanas.errors import InputError
from betanas.trial import TrialRecord

TOP, CLUSTERS = 30, 4


@dataclass(frozen=True, slots=True)
class Cluster:
    """One kind of kernel.

    Attributes:
        label: From 1; the clusters are numbered by mean value, best first.
        size: How many trials it has.
        mean_value: Mean accuracy of its trials, [0, 1].
        mean_parameters: Mean of each parameter.
        trials: Their numbers, best first.
    """

    label: int
    size: int
    mean_value: float
    mean_parameters: dict[str, float]
    trials: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clustering:
    """The best trials and how they group.

    Attributes:
        numbers: The n trials, best first.
        labels: The cluster of each, ``n``.
        linkage: The merges in SciPy's form, ``(n - 1) x 4``: two nodes, distance, size.
        clusters: Best first.
    """

    numbers: tuple[int, ...]
    labels: IntArray
    linkage: FloatArray
    clusters: tuple[Cluster, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The ``clusters`` of ``betanas cluster``."""
        return [{**asdict(c), "trials": list(c.trials)} for c in self.clusters]


def complete_trials(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The search's trials that have a value, best first, the earlier of equals first."""
    complete = [r for r in records if r.state == "complete" and r.value is not None]
    complete = [r for r in complete if not r.is_replicate]
    return sorted(complete, key=lambda r: (-(r.value or 0.0), r.number))


def highlighted(complete: int) -> tuple[int, int]:
    """How many of the best trials stand out, and how many stand out a little.

    The published 50 and 100; of fewer than 100 complete trials, a quarter and a half.
    """
    return (50, 100) if complete >= 100 else (-(-complete // 4), -(-complete // 2))


def kernel_matrix(records: Sequence[TrialRecord], names: Sequence[str]) -> FloatArray:
    """The kernels of n trials, ``n x d``, a column for each of ``names``."""
    rows = [[r.parameters[name] for name in names] for r in records]
    return np.array(rows, dtype=np.float64).reshape(len(records), len(names))


def cluster_best(
    records: Sequence[TrialRecord], names: Sequence[str], top: int = TOP, clusters: int = CLUSTERS
) -> Clustering:
    """Clusters the best complete trials by Ward's criterion.

    Args:
        records: All trials of the study.
        names: The parameters to cluster by; each is standardised over the chosen trials.
        top: How many of the best trials to take; all of them if there are fewer.
        clusters: How many clusters to cut the tree into.

    Raises:
        InputError: If there are too few complete trials for as many clusters.
    """
    best = complete_trials(records)[:top]
    if top < 2 or clusters < 1:
        raise InputError(
            f"--top must be >= 2 and --clusters >= 1, but got {top} and {clusters} clusters"
        )
    if len(best) < max(2, clusters):
        raise InputError(
            f"{clusters} clusters take at least {max(2, clusters)} complete trials among the best "
            f"{top}, but there are {len(best)}; ask for fewer clusters or run more trials"
        )
    table = kernel_matrix(best, names)
    tree = linkage(_standardised(table), "ward")
    # Not ``fcluster``: where merges are equally high it makes fewer clusters than it is asked for.
    own = cut_tree(tree, [clusters])[:, 0]
    values = np.array([r.value for r in best], dtype=np.float64)
    groups = [np.flatnonzero(own == label) for label in range(clusters)]
    groups.sort(key=lambda inside: (-values[inside].mean(), inside[0]))
    numbers, labels = tuple(r.number for r in best), np.empty(len(best), dtype=np.int64)
    found = []
    for label, inside in enumerate(groups, start=1):
        labels[inside] = label
        found.append(
            Cluster(
                label,
                len(inside),
                float(values[inside].mean()),
                dict(zip(names, map(float, table[inside].mean(axis=0)), strict=True)),
                tuple(numbers[i] for i in inside),
            )
        )
    return Clustering(numbers, labels, tree, tuple(found))


def _standardised(table: FloatArray) -> FloatArray:
    """Columns of mean 0 and standard deviation 1, ``n x d``; constant ones become 0."""
    varies = np.ptp(table, axis=0) > 0
    return np.asarray(
        np.where(varies, table - table.mean(axis=0), 0.0) / np.where(varies, table.std(axis=0), 1.0)
    )


def normalised(
    kernel: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> list[float]:
    """A kernel's values as shares of their ranges, in the ranges' order; fixed ones become 0.5."""
    return [
        (kernel[name] - low) / (high - low) if high > low else 0.5
        for name, (low, high) in ranges.items()
    ]
