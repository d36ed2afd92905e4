"""Ranks among a pool: what of them depends on the study, and that no two scores share the top."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from trainings import small_task

from betanas.architecture.decoding import decode
from betanas.errors import InputError
from betanas.measures.ranked import POOL, RankObjective, place, random_kernels
from betanas.measures.scored import fresh_network
from betanas.models.scores import synflow
from betanas.objectives import find_objective
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition


def ranked(name: str = "rank(synflow, num_params)", **overrides: object) -> StudyDefinition:
    return load_definition("digits", {"objective.name": name, **overrides})


def test_places_grow_with_scores_and_never_reach_the_ends() -> None:
    reference = [3.0, 1.0, 2.0, 2.0]
    assert [5 * place(s, reference) for s in (1, 1.5, 2, 2.5, 3)] == [1, 1.75, 2.5, 3.25, 4]
    beyond = [place(s, reference) for s in (-1e9, 0, 0.9, 1, 3, 3.1, 4, 1e9)]
    assert beyond == sorted(set(beyond))
    assert 0 < beyond[0] < beyond[-1] < 1
    assert place(7.0, [7.0, 7.0]) == 0.5
    assert place(8.0, [7.0, 7.0]) > 0.5 > place(6.0, [7.0, 7.0])


def test_the_pool_is_the_studys_and_within_its_limits() -> None:
    definition = ranked(**{"limits.num_params": 30_000})
    kernels = random_kernels(definition, 10)
    assert kernels == random_kernels(definition, 10)
    assert kernels[:POOL] != random_kernels(ranked(**{"search.seed": 1}), 10)[:POOL]
    family = definition.search_family
    for kernel in kernels[:POOL]:
        family.vector(kernel, definition.parameters)  # inside the study's ranges
        model = fresh_network(decode(family, kernel, 16, 10), 0, "cpu")
        assert sum(p.numel() for p in model.parameters()) <= 30_000


def test_a_value_is_the_mean_place_and_the_same_for_all_workers(tmp_path: Path) -> None:
    definition, task = ranked(), small_task(tmp_path)
    told: list[object] = []
    with RankObjective(definition, tmp_path) as first, RankObjective(definition, tmp_path) as later:
        value = first.run(task, told.append).value
        assert len(told) >= POOL
        (cached,) = tmp_path.glob("ranks-*.json")
        reference = json.loads(cached.read_text())
        told.clear()
        assert later.run(task, told.append).value == value
        assert not told, "the pool was scored already"
        other = later.run(replace(task, seed=task.seed + 1), print).value
    assert [len(scores) for scores in reference.values()] == [POOL, POOL]
    model = fresh_network(task.architecture, task.seed, "cpu")
    weights = sum(p.numel() for p in model.parameters())
    own = place(synflow(model, 16), reference["synflow"])
    assert value == pytest.approx((own + place(weights, reference["num_params"])) / 2)
    assert other != value
    with RankObjective(ranked(**{"search.seed": 1}), tmp_path) as objective:
        objective.run(task, print)
    assert len(list(tmp_path.glob("ranks-*.json"))) == 2


def test_naswot_alone_ranks_by_the_studys_images(tmp_path: Path) -> None:
    definition = ranked("rank( naswot )")
    assert find_objective(definition.objective.name)(definition, tmp_path).__enter__()
    assert definition.objective.reads_images
    assert not ranked("rank(synflow, macs)").objective.reads_images


@pytest.mark.parametrize("name", ["rank()", "rank(naswot, naswot)", "rank(accuracy)"])
def test_what_cannot_be_ranked_by_is_told(name: str) -> None:
    with pytest.raises(InputError, match="must name some of naswot, synflow, num_params, macs"):
        ranked(name)


def test_limits_that_leave_too_few_networks(tmp_path: Path) -> None:
    with (
        RankObjective(ranked(**{"limits.num_params": 10}), tmp_path) as objective,
        pytest.raises(InputError, match="ranks among 32 random networks, but of 16,384 kernels 0"),
    ):
        objective.run(small_task(tmp_path), print)
