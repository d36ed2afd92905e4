"""The problems of benchmarks/search.py: boxes with exact rules and an objective to maximise.

BetaNet landscapes are artificial objectives on real spaces with real limits (R=224, batch 100, at
most 30M weights, and 20 GiB or 6 GiB a training step): 1 at an optimum drawn at random among the
feasible kernels, about 0 for a poor kernel, noise of 0.01. ``smooth`` ones depend on the kernel,
``architecture`` ones only on what the kernel decodes to. The four engineering problems are
BoTorch's; its figure of their optimum is their 1 (welded beam's can be beaten), and the median of
random feasible points their 0.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from botorch.test_functions import synthetic
from scipy.stats import qmc

from betanas.architecture.complexity import count_table
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import BlockCode
from betanas.architecture.limits import Feasibility, Limits
from betanas.arrays import FloatArray
from betanas.parameters import Real
from betanas.search.problem import Problem as SearchProblem
from betanas.search.rules import ArchitectureRules, Assessment, Rules
from betanas.search.space import Space

RESOLUTION, CLASSES, BATCH, SLOTS, GIB = 224, 100, 100, 2, 2**30
NOISE = 0.01


@dataclass(frozen=True)
class Problem:
    """A space with rules and an objective.

    Attributes:
        name: For the table.
        sobol: Space, rules and the first phase; the same points for every sampler.
        objective: Noise-free values, 1 at the optimum: ``n x d`` to ``n``.
        noise: Standard deviation of what a sampler is told.
        violation: How far kernels are from feasible, <= 0 where they are, ``n x d`` to ``n``: told
            to the peers that model constraints; None where peers are told the value 0 instead.
    """

    name: str
    sobol: SearchProblem[Rules]
    objective: Callable[[FloatArray], FloatArray]
    noise: float
    violation: Callable[[FloatArray], FloatArray] | None = None

    @property
    def space(self) -> Space:
        """The ranges."""
        return self.sobol.space

    @property
    def rules(self) -> Rules:
        """What is known exactly."""
        return self.sobol.rules


def betanet_feasibility(family: str, memory_gib: int) -> Feasibility:
    """The limits of the BetaNet landscapes."""
    limits = Limits(RESOLUTION, 30_000_000, memory_gib * GIB)
    return Feasibility(FAMILIES[family], CLASSES, BATCH, SLOTS, limits)


def betanet(
    name: str, family: str, kind: str, memory_gib: int, seed: int, apart: float = 0.0
) -> Problem:
    """A BetaNet landscape.

    Args:
        name: For the table.
        family: Whose space.
        kind: ``smooth`` or ``architecture``.
        memory_gib: Limit of a training step.
        seed: Of the optimum, the dimensions' weights and the Sobol phase.
        apart: Moves the optimum so much of the way to another random feasible kernel, and the
            weights by factors of that deviation (of their logarithm).
    """
    space = Space(FAMILIES[family].parameters)
    feasibility = betanet_feasibility(family, memory_gib)
    rng = np.random.default_rng([7, seed])
    kernels = space.kernels(rng.random((2**15, len(space.names))))
    kernels = kernels[feasibility.feasible(kernels)]
    describe = space.unit if kind == "smooth" else ArchitectureDescription(family)
    described = describe(kernels)
    centre = described[0]
    spread = described.std(axis=0) + 1e-9
    weights = rng.lognormal(sigma=0.8, size=described.shape[1])
    centre = centre + apart * (described[1] - centre)
    weights = weights * rng.lognormal(sigma=apart, size=len(weights))

    def squared(x: FloatArray) -> FloatArray:
        return np.asarray(((describe(x) - centre) / spread) ** 2 @ weights)

    typical = squared(kernels).mean()
    return Problem(
        name,
        SearchProblem(space, ArchitectureRules(space, feasibility), seed, 100, 20),
        lambda x: np.exp(-3 * squared(x) / typical),
        NOISE,
    )


@dataclass(frozen=True)
class ArchitectureDescription:
    """What a person would say of an architecture, in numbers: ``n x d`` kernels to ``n x 19``.

    Depth; at a quarter, half, three quarters and the end of it the width, the resolution and the
    expansion; share of fused blocks; squeeze width; latent size; weights, multiply-adds and
    activations. Where sizes are meant, their logarithm.
    """

    family: str

    def __call__(self, kernels: FloatArray) -> FloatArray:
        """Describes n feasible kernels."""
        parts = [self._chunk(kernels[i : i + 1024]) for i in range(0, len(kernels), 1024)]
        return np.concatenate(parts)

    def _chunk(self, kernels: FloatArray) -> FloatArray:
        table = FAMILIES[self.family].table(kernels, RESOLUTION)
        costs = count_table(table, CLASSES, BATCH)
        depth = np.maximum(table.depth, 1)
        columns = [np.log(depth), np.log(np.maximum(table.latent_channels, 1))]
        for share in (0.25, 0.5, 0.75, 1.0):
            at = np.minimum((share * depth).astype(int), depth - 1)[:, None]
            for values in (table.out_channels, table.out_resolution, 1 + table.expansion_ratio):
                found = np.take_along_axis(np.asarray(values, dtype=float), at, axis=1)[:, 0]
                columns.append(np.log(np.maximum(found, 1)))
        columns.append((table.block == BlockCode.FMBC).sum(axis=1) / depth)
        columns.append(np.log(1 + table.squeeze_channels.max(axis=1, initial=0)))
        counted = (costs.num_params, costs.macs, costs.activation_bytes)
        columns += [np.log(np.maximum(cost, 1)) for cost in counted]
        return np.column_stack(columns)


@dataclass(frozen=True)
class BoxRules(Rules):
    """The declared constraints of one of BoTorch's problems."""

    function: synthetic.ConstrainedSyntheticTestFunction

    def slack(self, kernels: FloatArray) -> FloatArray:
        """``n x c``, >= 0 where a constraint holds."""
        return np.asarray(self.function.evaluate_slack(torch.from_numpy(kernels)).numpy())

    def feasible(self, kernels: FloatArray) -> np.ndarray:
        """Which of n points satisfy all constraints."""
        return np.all(self.slack(kernels) >= 0, axis=1)

    def assess(self, kernels: FloatArray) -> Assessment:
        """No features: nothing is known here but the constraints."""
        return Assessment(self.feasible(kernels), np.zeros((len(kernels), 0)))

    def identity(self, kernel: FloatArray) -> Hashable:
        """The point itself."""
        return kernel.tobytes()

    @cached_property
    def scale(self) -> FloatArray:
        """The constraints' typical sizes over the box, ``c``."""
        bounds = self.function.bounds.double().numpy()
        unit = qmc.Sobol(bounds.shape[1], rng=1).random(1024)
        slack = self.slack(bounds[0] + unit * (bounds[1] - bounds[0]))
        return np.asarray(np.median(np.abs(slack), axis=0) + 1e-12)

    def violation(self, kernels: FloatArray) -> FloatArray:
        """The worst constraint in units of its typical size, ``n``; <= 0 where all hold."""
        return np.asarray((-self.slack(kernels) / self.scale).max(axis=1))


def engineering(
    name: str, function: synthetic.ConstrainedSyntheticTestFunction, seed: int
) -> Problem:
    """One of BoTorch's problems, to be maximised, its constraints declared as known."""
    bounds = function.bounds.double().numpy()
    space = Space(tuple(Real(f"x{i}", low, high) for i, (low, high) in enumerate(bounds.T)))
    rules = BoxRules(function)

    def cost(x: FloatArray) -> FloatArray:
        return np.asarray(function._evaluate_true(torch.from_numpy(x)).numpy())

    points = space.kernels(qmc.Sobol(len(space.names), rng=0).random(2**17))
    poor = float(np.median(cost(points[rules.feasible(points)])))
    best = float(function._optimal_value)
    return Problem(
        name,
        SearchProblem(space, rules, seed, 20, 10),
        lambda x: (poor - cost(x)) / (poor - best),
        0.0,
        rules.violation,
    )


def problems() -> dict[str, Callable[[int], Problem]]:
    """All problems by name; each is made for a seed."""
    double = {"dtype": torch.double}
    return {
        "b2 smooth": lambda s: betanet("b2 smooth", "betanet2", "smooth", 20, s),
        "b3 smooth": lambda s: betanet("b3 smooth", "betanet3", "smooth", 20, s),
        "b2 architecture": lambda s: betanet("b2 architecture", "betanet2", "architecture", 20, s),
        "b3 architecture": lambda s: betanet("b3 architecture", "betanet3", "architecture", 20, s),
        "b2 tight memory": lambda s: betanet("b2 tight memory", "betanet2", "architecture", 6, s),
        "b3 tight memory": lambda s: betanet("b3 tight memory", "betanet3", "smooth", 6, s),
        "speed reducer": lambda s: engineering(
            "speed reducer", synthetic.SpeedReducer(**double), s
        ),
        "welded beam": lambda s: engineering("welded beam", synthetic.WeldedBeamSO(**double), s),
        "pressure vessel": lambda s: engineering(
            "pressure vessel", synthetic.PressureVessel(**double), s
        ),
        "keane bump": lambda s: engineering(
            "keane bump", synthetic.KeaneBumpFunction(dim=10, **double), s
        ),
    }
