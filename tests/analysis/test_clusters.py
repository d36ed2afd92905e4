"""Clusters are scikit-learn's own, told in the words of the published tables."""

import dataclasses

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, ward
from sklearn.cluster import AgglomerativeClustering
from sklearn.preprocessing import StandardScaler

from betanas.analysis.axes import options, places
from betanas.analysis.clusters import (
    _comparable,
    cluster_best,
    complete_trials,
    highlighted,
    kernel_matrix,
)
from betanas.analysis.tables import cluster_table
from betanas.errors import InputError
from betanas.parameters import Choice, Integer, Real
from betanas.trial import TrialRecord


def partition(numbers, labels) -> set[frozenset[int]]:
    return {
        frozenset(n for n, own in zip(numbers, labels, strict=True) if own == label)
        for label in set(labels)
    }


@pytest.mark.parametrize(("top", "clusters"), [(30, 4), (12, 1), (50, 7), (1000, 4), (5, 5)])
def test_clusters_are_scikit_learns(records, definition, top, clusters) -> None:
    names = list(definition.parameters)
    found = cluster_best(records, definition.searched, top, clusters)
    best = complete_trials(records)[:top]
    table = StandardScaler().fit_transform([[r.parameters[n] for n in names] for r in best])
    theirs = AgglomerativeClustering(n_clusters=clusters, linkage="ward").fit_predict(table)
    numbers = [r.number for r in best]
    assert list(found.numbers) == numbers
    assert {frozenset(c.trials) for c in found.clusters} == partition(numbers, theirs.tolist())
    np.testing.assert_allclose(found.linkage[:, 2], ward(table)[:, 2])
    cut = fcluster(found.linkage, clusters, "maxclust").tolist()
    assert partition(numbers, cut) == partition(numbers, theirs.tolist())


def test_equal_kernels_still_make_as_many_clusters_as_were_asked_for(records, definition) -> None:
    best = complete_trials(records)[:6]
    twins = [dataclasses.replace(r, parameters=best[0].parameters) for r in best[:4]]
    found = cluster_best([*twins, *best[4:]], definition.searched, clusters=5)
    assert sorted(c.size for c in found.clusters) == [1, 1, 1, 1, 2]
    assert sorted(n for c in found.clusters for n in c.trials) == sorted(r.number for r in best)


def test_means_are_those_of_the_members_and_the_best_cluster_is_first(records, definition) -> None:
    found = cluster_best(records, definition.searched)
    assert [c.label for c in found.clusters] == [1, 2, 3, 4]
    values = [c.mean_value for c in found.clusters]
    assert values == sorted(values, reverse=True)
    assert sum(c.size for c in found.clusters) == 30
    for cluster in found.clusters:
        members = [records[n] for n in cluster.trials]
        assert cluster.size == len(members)
        assert cluster.mean_value == pytest.approx(np.mean([r.value for r in members]))
        for name, mean in cluster.mean_parameters.items():
            assert mean == pytest.approx(np.mean([r.parameters[name] for r in members]))


def test_a_fixed_parameter_does_no_harm(records, definition) -> None:
    fixed = [
        dataclasses.replace(r, parameters={**r.parameters, "B": 0.5}) if r.parameters else r
        for r in records
    ]
    found = cluster_best(fixed, definition.searched)
    assert np.isfinite(found.linkage).all()
    assert found.clusters[0].mean_parameters["B"] == 0.5


def test_too_few_trials_are_an_error_that_says_what_to_do(records, definition) -> None:
    parameters = definition.searched
    few = complete_trials(records)[:3]
    with pytest.raises(InputError, match=r"at least 4 complete trials.*there are 3"):
        cluster_best(few, parameters)
    assert len(cluster_best(few, parameters, clusters=2).clusters) == 2
    with pytest.raises(InputError, match="at least 2 complete"):
        cluster_best(few[:1], parameters, clusters=1)
    with pytest.raises(InputError, match="--top must be >= 2"):
        cluster_best(few, parameters, top=0)


def test_the_table_has_the_published_layout(findings, definition) -> None:
    names = list(definition.parameters)
    found, recommended = findings.clustering, findings.recommended
    table = cluster_table(found, recommended)
    head = ("parameter", "recommended", "cluster 1", "cluster 2", "cluster 3", "cluster 4")
    assert table.columns == head
    assert [row[0] for row in table.rows] == [*names, "mean evaluation", "trials"]
    assert table.rows[0][1] == recommended.parameters["k"]
    assert table.rows[-2][1:3] == [recommended.predicted_value, found.clusters[0].mean_value]
    assert table.rows[-1][1] is None
    assert cluster_table(found, None).columns == (head[0], *head[2:])


def test_the_published_numbers_stand_out_unless_there_are_few_trials() -> None:
    assert highlighted(200) == highlighted(100) == (50, 100)
    assert highlighted(40) == (10, 20)
    assert highlighted(1) == (1, 1)
    assert highlighted(0) == (0, 0)


BLOCKS = ("conv", "residual", "fused", "mbconv", "convnext")


def mixed(options: tuple[str, ...]) -> tuple[list[TrialRecord], tuple[Real | Choice, ...]]:
    """Twelve trials of two kinds: narrow with the first and last block, wide with the others."""
    kinds = [("conv", 1.0), ("convnext", 1.2)] * 3 + [("residual", 8.0), ("mbconv", 8.4)] * 3
    records = [
        TrialRecord(i, "complete", value=1 - i / 100, parameters={"block": block, "width": width})
        for i, (block, width) in enumerate(kinds)
    ]
    return records, (Choice("block", options), Real("width", 0, 10))


def test_the_order_in_which_options_are_declared_means_nothing() -> None:
    found = [cluster_best(*mixed(order), clusters=3) for order in (BLOCKS, BLOCKS[::-1])]
    np.testing.assert_allclose(found[0].linkage, found[1].linkage)
    assert [c.trials for c in found[0].clusters] == [c.trials for c in found[1].clusters]
    # The first and the last option are no further apart than any two.
    two = cluster_best(*mixed(BLOCKS), clusters=2)
    assert [sorted(c.trials) for c in two.clusters] == [[*range(6)], [*range(6, 12)]]


def test_a_choice_is_told_by_its_most_frequent_option() -> None:
    records, parameters = mixed(BLOCKS)
    other = dataclasses.replace(records[0], parameters={"block": "fused", "width": 1.0})
    first, second = cluster_best([other, *records[1:]], parameters, clusters=2).clusters
    assert first.mean_parameters["block"] == "convnext"
    assert first.option_shares == {"block": 0.5}
    assert first.mean_parameters["width"] == pytest.approx(1.1)
    assert second.mean_parameters["block"] == "residual"  # of equals, the one declared first
    table = cluster_table(cluster_best([other, *records[1:]], parameters, clusters=2), None)
    assert table.rows[0] == ["block", "convnext (50%)", "residual (50%)"]


def test_different_options_are_as_far_apart_as_numbers_are_on_average() -> None:
    values = np.random.default_rng(0).standard_normal(30)
    records = [
        TrialRecord(i, "complete", value=0.5, parameters={"x": x, "c": f"c{i}", "fixed": 3})
        for i, x in enumerate(values)
    ]
    choice = Choice("c", tuple(f"c{i}" for i in range(30)))
    numbers = _comparable(kernel_matrix(records, [Real("x", -9, 9)]), [Real("x", -9, 9)])
    hot = _comparable(kernel_matrix(records, [choice]), [choice])
    gaps = [((m[:, None] - m[None]) ** 2).sum(2) for m in (numbers, hot)]
    apart = ~np.eye(30, dtype=bool)
    assert gaps[1][apart] == pytest.approx(2)
    assert gaps[0].mean() == pytest.approx(2)
    fixed = Integer("fixed", 3, 3)
    assert not _comparable(kernel_matrix(records, [fixed]), [fixed]).any()


def test_kernels_have_places_between_the_ends_of_their_ranges() -> None:
    parameters = (Real("a", 2, 4), Real("b", 7, 7), Real("c", 1, 100, log=True))
    assert places({"a": 3, "b": 7, "c": 10}, parameters) == [0.5, 0.5, 0.5]
    block = Choice("block", BLOCKS).narrowed(["residual", "mbconv"])
    assert options(block) == {"residual": 0.0, "mbconv": 1.0}
    assert options(parameters[0]) == {}
    assert kernel_matrix([], [Real("k", 0, 1)]).shape == (0, 1)
