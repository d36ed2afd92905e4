"""The best trials, clustered: which kinds of kernel do well?

Hierarchical clustering with Ward's criterion on standardised parameters, as in the report that the
method is from (A. Peaston, 2022, Tables 5 and 6): the best 30 trials, 4 clusters. Options have no
order and no mean: a choice counts by whether it is the same, and is told by its commonest option.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage

from betanas.arrays import FloatArray, IntArray
from betanas.errors import InputError
from betanas.parameters import Choice, Parameter, Value
from betanas.trial import TrialRecord

TOP, CLUSTERS = 30, 4


@dataclass(frozen=True, slots=True)
class Cluster:
    """One kind of kernel.

    Attributes:
        label: From 1; the clusters are numbered by mean value, best first.
        size: How many trials it has.
        mean_value: Mean accuracy of its trials, [0, 1].
        mean_parameters: Mean of each parameter; of a choice its most frequent option, of equals
            the one that is declared first.
        option_shares: How many of the trials have that option, (0, 1], of each choice.
        trials: Their numbers, best first.
    """

    label: int
    size: int
    mean_value: float
    mean_parameters: dict[str, Value]
    option_shares: dict[str, float]
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


def kernel_matrix(records: Sequence[TrialRecord], parameters: Sequence[Parameter]) -> FloatArray:
    """The numbers of n trials' kernels, ``n x d``, a column for each parameter."""
    rows = [[p.number(r.parameters[p.name]) for p in parameters] for r in records]
    return np.array(rows, dtype=np.float64).reshape(len(records), len(parameters))


def cluster_best(
    records: Sequence[TrialRecord],
    parameters: Sequence[Parameter],
    top: int = TOP,
    clusters: int = CLUSTERS,
) -> Clustering:
    """Clusters the best complete trials by Ward's criterion.

    Args:
        records: All trials of the study.
        parameters: What to cluster by; numbers are standardised over the chosen trials.
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
    table = kernel_matrix(best, parameters)
    tree = linkage(_comparable(table, parameters), "ward")
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
                *_summary(table[inside], parameters),
                tuple(numbers[i] for i in inside),
            )
        )
    return Clustering(numbers, labels, tree, tuple(found))


def _comparable(table: FloatArray, parameters: Sequence[Parameter]) -> FloatArray:
    """What distances are taken between, from ``n x d`` to ``n x e``.

    Numbers have mean 0 and standard deviation 1; constant ones become 0. A choice has one column an
    option, 1 where a trial has it: trials of different options are a distance of sqrt(2) apart,
    which is the root mean square distance of two trials along a standardised number. So no choice
    weighs more than a number does. Standardised as well, an option that one of 30 trials has would
    be four times as far away and make a cluster of its own.
    """
    columns = []
    for p, column in zip(parameters, table.T, strict=True):
        if isinstance(p, Choice):
            columns.append(column[:, None] == np.arange(len(p.widest)))
        elif np.ptp(column) > 0:
            columns.append((column[:, None] - column.mean()) / column.std())
    return np.concatenate([np.zeros((len(table), 1)), *columns], axis=1)


def _summary(
    table: FloatArray, parameters: Sequence[Parameter]
) -> tuple[dict[str, Value], dict[str, float]]:
    """The mean kernel of some trials, ``n x d``, and the shares of its options."""
    means: dict[str, Value] = {}
    shares: dict[str, float] = {}
    for p, column in zip(parameters, table.T, strict=True):
        if isinstance(p, Choice):
            counts = np.bincount(column.astype(np.int64))
            means[p.name] = p.value(float(counts.argmax()))
            shares[p.name] = float(counts.max() / len(column))
        else:
            means[p.name] = float(column.mean())
    return means, shares
