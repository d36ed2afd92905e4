"""Clusters are scikit-learn's own, told in the words of the published tables."""

import dataclasses

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, ward
from sklearn.cluster import AgglomerativeClustering
from sklearn.preprocessing import StandardScaler

from betanas.analysis.clusters import (
    cluster_best,
    complete_trials,
    highlighted,
    kernel_matrix,
    normalised,
)
from betanas.analysis.tables import cluster_table
from betanas.errors import InputError


def partition(numbers, labels) -> set[frozenset[int]]:
    return {
        frozenset(n for n, own in zip(numbers, labels, strict=True) if own == label)
        for label in set(labels)
    }


@pytest.mark.parametrize(("top", "clusters"), [(30, 4), (12, 1), (50, 7), (1000, 4), (5, 5)])
def test_clusters_are_scikit_learns(records, definition, top, clusters) -> None:
    names = list(definition.parameters)
    found = cluster_best(records, names, top, clusters)
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
    names = list(definition.parameters)
    best = complete_trials(records)[:6]
    twins = [dataclasses.replace(r, parameters=best[0].parameters) for r in best[:4]]
    found = cluster_best([*twins, *best[4:]], names, clusters=5)
    assert sorted(c.size for c in found.clusters) == [1, 1, 1, 1, 2]
    assert sorted(n for c in found.clusters for n in c.trials) == sorted(r.number for r in best)


def test_means_are_those_of_the_members_and_the_best_cluster_is_first(records, definition) -> None:
    found = cluster_best(records, list(definition.parameters))
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
    found = cluster_best(fixed, list(definition.parameters))
    assert np.isfinite(found.linkage).all()
    assert found.clusters[0].mean_parameters["B"] == 0.5


def test_too_few_trials_are_an_error_that_says_what_to_do(records, definition) -> None:
    names = list(definition.parameters)
    few = complete_trials(records)[:3]
    with pytest.raises(InputError, match=r"at least 4 complete trials.*there are 3"):
        cluster_best(few, names)
    assert len(cluster_best(few, names, clusters=2).clusters) == 2
    with pytest.raises(InputError, match="at least 2 complete"):
        cluster_best(few[:1], names, clusters=1)
    with pytest.raises(InputError, match="--top must be >= 2"):
        cluster_best(few, names, top=0)


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


def test_kernels_normalise_to_their_ranges(records) -> None:
    assert normalised({"a": 3, "b": 7}, {"a": (2, 4), "b": (7, 7)}) == [0.5, 0.5]
    assert kernel_matrix([], ["k"]).shape == (0, 1)
