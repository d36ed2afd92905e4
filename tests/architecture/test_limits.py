"""Feasibility: every reason, their order, and many kernels as one by one."""

import numpy as np
import pytest
from drawn_kernels import FAMILY_NAMES, random_kernels
from numpy.typing import NDArray

from betanas.architecture.complexity import Complexity, count, step_bytes
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.limits import LATENCY_MARGIN, Feasibility, Limits, Rejection
from betanas.architecture.operators import Grid, Operator, OperatorTable

FAMILY = FAMILIES["betanet2"]
R, CLASSES, BATCH, SLOTS = 64, 10, 16, 2


def rules(limits: Limits | None = None, scaled: Limits | None = None) -> Feasibility:
    return Feasibility(FAMILY, CLASSES, BATCH, SLOTS, limits or Limits(R), scaled)


def kernel(**changed: float) -> NDArray[np.float64]:
    return FAMILY.vector({**FAMILY.published, **changed})


def costs_at(resolution: int, vector: NDArray[np.float64]) -> Complexity:
    return count(decode(FAMILY, FAMILY.kernel(vector), resolution, CLASSES), BATCH)


def memory_at(resolution: int, vector: NDArray[np.float64]) -> int:
    costs = costs_at(resolution, vector)
    return costs.activation_bytes + 4 * (2 + SLOTS) * costs.num_params


def reason(feasibility: Feasibility, vector: NDArray[np.float64]) -> Rejection | None:
    return feasibility.check(vector[None, :]).reason(0)


GOOD, TRIVIAL = kernel(), kernel(k=6.5)  # 64 < 2**6.5, and 128 is not


def test_no_limits_but_a_contraction() -> None:
    assert reason(rules(), GOOD) is None
    assert reason(rules(), TRIVIAL) is Rejection.NO_CONTRACTION
    assert rules().feasible(np.stack([GOOD, TRIVIAL])).tolist() == [True, False]


def test_weights_inclusive() -> None:
    weights = costs_at(R, GOOD).num_params
    assert reason(rules(Limits(R, num_params=weights)), GOOD) is None
    assert reason(rules(Limits(R, num_params=weights - 1)), GOOD) is Rejection.NUM_PARAMS


def test_multiply_adds_inclusive() -> None:
    macs = costs_at(R, GOOD).macs
    assert reason(rules(Limits(R, macs=macs)), GOOD) is None
    assert reason(rules(Limits(R, macs=macs - 1)), GOOD) is Rejection.MACS


def test_memory_inclusive() -> None:
    memory = memory_at(R, GOOD)
    assert reason(rules(Limits(R, memory_bytes=memory)), GOOD) is None
    assert reason(rules(Limits(R, memory_bytes=memory - 1)), GOOD) is Rejection.MEMORY


def test_latency_by_what_the_operators_take() -> None:
    axes = ((8, 512), (2, 64))
    seconds = {op: Grid(((8, 512), *axes), np.full((2, 2, 2), 1e-4)) if op.has_outputs
               else Grid(axes, np.full((2, 2), 1e-4)) for op in Operator}  # fmt: skip
    table = OperatorTable("a device", seconds)
    steps = OperatorTable("a device", {})

    def limited(milliseconds: float | None, images: int = 1) -> Feasibility:
        limits = Limits(R, latency_ms=milliseconds)
        return Feasibility(
            FAMILY, CLASSES, BATCH, SLOTS, limits,
            operators=steps, answering=table, answer_images=images,
        )  # fmt: skip

    found = limited(None).check(np.stack([GOOD, TRIVIAL]))
    assert found.latency_ms is not None
    predicted = found.latency_ms[0]
    layers = len(decode(FAMILY, FAMILY.kernel(GOOD), R, CLASSES).layers)
    assert predicted > 0.1 * 3 * layers
    assert found.step_seconds is not None
    assert found.step_seconds.tolist() == [0.0, 0.0]
    assert limited(None, 4).check(GOOD[None, :]).latency_ms == pytest.approx(4 * predicted)
    # Near the limit it is the trial's own measurement that counts.
    assert reason(limited(predicted / LATENCY_MARGIN * 1.01), GOOD) is None
    assert reason(limited(predicted / LATENCY_MARGIN * 0.99), GOOD) is Rejection.LATENCY
    assert reason(limited(1e-9), TRIVIAL) is Rejection.NO_CONTRACTION


def test_memory_counts_batch_and_optimiser() -> None:
    memory = memory_at(R, GOOD)
    for batch, slots in ((BATCH + 1, SLOTS), (BATCH, SLOTS + 1)):
        limits = Limits(R, memory_bytes=memory)
        assert reason(Feasibility(FAMILY, CLASSES, batch, slots, limits), GOOD) is Rejection.MEMORY


def test_scaled_weights_inclusive() -> None:
    weights = costs_at(128, GOOD).num_params
    assert weights > costs_at(R, GOOD).num_params
    assert reason(rules(scaled=Limits(128, num_params=weights)), GOOD) is None
    found = reason(rules(scaled=Limits(128, num_params=weights - 1)), GOOD)
    assert found is Rejection.SCALED_NUM_PARAMS


def test_scaled_memory_inclusive() -> None:
    memory = memory_at(128, GOOD)
    assert reason(rules(scaled=Limits(128, memory_bytes=memory)), GOOD) is None
    found = reason(rules(scaled=Limits(128, memory_bytes=memory - 1)), GOOD)
    assert found is Rejection.SCALED_MEMORY


def test_no_contraction_at_a_smaller_second_resolution() -> None:
    vector = kernel(k=5.5)
    assert reason(rules(), vector) is None
    assert reason(rules(scaled=Limits(32)), vector) is Rejection.SCALED_NO_CONTRACTION


def test_second_resolution_keeps_the_costs_of_the_first() -> None:
    plain, scaled = rules(), rules(scaled=Limits(256, num_params=1))
    first, second = plain.check(GOOD[None, :]), scaled.check(GOOD[None, :])
    assert second.reason(0) is Rejection.SCALED_NUM_PARAMS
    assert first.complexities.row(0) == second.complexities.row(0) == costs_at(R, GOOD)


def test_first_rule_broken_is_the_reason() -> None:
    every = Limits(R, num_params=1, memory_bytes=1)
    scaled = Limits(128, num_params=1, memory_bytes=1)
    assert reason(rules(every, scaled), TRIVIAL) is Rejection.NO_CONTRACTION
    assert reason(rules(every, scaled), GOOD) is Rejection.NUM_PARAMS
    assert reason(rules(Limits(R, memory_bytes=1), scaled), GOOD) is Rejection.MEMORY
    assert reason(rules(Limits(R), scaled), GOOD) is Rejection.SCALED_NUM_PARAMS
    assert reason(rules(Limits(R), Limits(128, memory_bytes=1)), GOOD) is Rejection.SCALED_MEMORY
    # Trivial at both resolutions, and beyond the weights at the second.
    smaller = Limits(32, num_params=1)
    assert reason(rules(scaled=smaller), kernel(k=5.5)) is Rejection.SCALED_NO_CONTRACTION
    assert reason(rules(scaled=smaller), TRIVIAL) is Rejection.NO_CONTRACTION


def test_values_in_the_database() -> None:
    # Stored with every rejected trial: changing one breaks the databases that exist.
    assert [str(r) for r in Rejection] == [
        "no_contraction",
        "num_params",
        "memory",
        "scaled_no_contraction",
        "scaled_num_params",
        "scaled_memory",
        "macs",
        "latency",
        "family_rule",
        "scaled_growth",
    ]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_many_are_as_one_by_one(family: str) -> None:
    chosen = FAMILIES[family]
    limits = Limits(R, num_params=800_000, memory_bytes=600 * 2**20)
    scaled = Limits(96, num_params=1_200_000, memory_bytes=1000 * 2**20)
    feasibility = Feasibility(chosen, CLASSES, BATCH, SLOTS, limits, scaled)
    x = random_kernels(chosen, 2100, seed=9)
    x[:, chosen.names.index("k")] = 2 + (x[:, chosen.names.index("k")] - 2) * 0.6
    verdicts = feasibility.check(x)
    assert len(verdicts.code) == len(x)
    counts = verdicts.counts()
    assert sum(counts.values()) == int((~verdicts.feasible).sum())
    assert {"no_contraction", "num_params", "memory", "scaled_num_params"} <= set(counts)
    assert verdicts.feasible.any()
    edges = [0, 1, 1022, 1023, 1024, 1025, 2047, 2048, 2049, 2099]
    for i in [*edges, *range(7, 2100, 40)]:
        single = feasibility.check(x[i : i + 1])
        assert single.reason(0) == verdicts.reason(i)
        assert single.complexities.row(0) == verdicts.complexities.row(i)
        assert (verdicts.reason(i) is None) == bool(verdicts.feasible[i])


def test_agrees_with_the_costs_it_reports() -> None:
    limits = Limits(R, num_params=700_000, memory_bytes=300 * 2**20)
    x = random_kernels(FAMILY, 500, seed=2)
    verdicts = rules(limits).check(x)
    costs, trivial = verdicts.complexities, FAMILY.table(x, R).depth == 0
    fits = (costs.num_params <= 700_000) & (step_bytes(costs, SLOTS) <= 300 * 2**20) & ~trivial
    assert np.array_equal(verdicts.feasible, fits)
    assert 0 < fits.sum() < len(x)


@pytest.mark.parametrize("number", [0, 1, 1024, 1025])
def test_any_number_of_kernels(number: int) -> None:
    verdicts = rules().check(np.tile(GOOD, (number, 1)))
    assert verdicts.feasible.tolist() == [True] * number
    assert verdicts.counts() == {}
    assert len(verdicts.complexities.macs) == number


def test_the_scaling_ratio_is_a_limit() -> None:
    family = FAMILIES["betanet2"]
    kernels = np.array([list(family.published.values())])  # 8,859,193 weights, at 384 30,011,085
    for growth, expected in ((3.38, Rejection.SCALED_GROWTH), (3.39, None)):
        scaled = Limits(384, growth=growth)
        rules = Feasibility(family, 100, BATCH, SLOTS, Limits(224), scaled)
        assert rules.check(kernels).reason(0) is expected
