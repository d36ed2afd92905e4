"""BoTorch's acquisition functions, ours and others', and both directions of candidates_func."""

import re
import textwrap
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pytest
import torch
from botorch.acquisition import AcquisitionFunction, UpperConfidenceBound
from optuna_integration import BoTorchSampler
from optuna_integration.botorch import logei_candidates_func, qei_candidates_func
from own_problem import SPACE, make_problem, value
from test_own_problem import drawn, suggest

import betanas
from betanas.errors import InputError
from betanas.search.acquisitions import ACQUISITIONS, believer
from betanas.search.botorch_model import KernelGP, fit_model
from betanas.search.candidates import FeasibleCandidates
from betanas.search.sampler import KernelSampler
from betanas.study.sections import SearchConfig

API = Path(__file__).parents[2] / "docs" / "api.md"
RULES = make_problem().rules


def is_feasible(kernel: dict[str, Any]) -> bool:
    return bool(RULES.assess(SPACE.vector(kernel)[None, :]).feasible[0])


def told(sampler: optuna.samplers.BaseSampler, number: int = 16) -> optuna.Study:
    """A study that knows of so many feasible trials."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    kernels = drawn()
    for vector in kernels[RULES.assess(kernels).feasible][:number]:
        kernel = SPACE.kernel(vector)
        study.add_trial(
            optuna.trial.create_trial(
                params=kernel, distributions=SPACE.distributions, value=value(kernel)
            )
        )
    return study


def searching(**options: Any) -> optuna.Study:
    return told(KernelSampler(make_problem(), **options), make_problem().opening_length)


class Nearest(AcquisitionFunction):
    """Likes a rate in the middle of its range, whatever the model says."""

    def __init__(self, model: Any, observed: torch.Tensor, pending: torch.Tensor | None) -> None:
        super().__init__(model)
        self.observed, self.pending = observed, pending

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return -((X[:, 0, 0] - 0.5) ** 2)


# -- by name, or one's own ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_every_named_one_proposes_feasible_kernels_and_none_twice(name: str) -> None:
    proposed = []
    for _ in range(2):
        study = searching(strategy="botorch", acquisition=name)
        proposed.append([suggest(study.ask()) for _ in range(2)])  # beside each other, both running
    assert proposed[0] == proposed[1]
    assert all(is_feasible(kernel) for kernel in proposed[0])
    assert proposed[0][0] != proposed[0][1]


def test_study_files_and_python_know_the_same_names() -> None:
    field = SearchConfig.model_fields["acquisition"]
    assert get_args(field.annotation) == tuple(ACQUISITIONS)
    assert field.default == next(iter(ACQUISITIONS))


def test_somebody_elses_is_what_is_maximised() -> None:
    made = []

    def middle(
        model: Any, observed: torch.Tensor, pending: torch.Tensor | None, seed: int
    ) -> AcquisitionFunction:
        made.append((Nearest(model, observed, pending), seed))
        return made[-1][0]

    study = searching(strategy="botorch", acquisition=middle)
    rates = [suggest(study.ask())["rate"] for _ in range(2)]
    np.testing.assert_allclose(np.log10(rates), -2, atol=0.02)
    (first, seed), (second, other) = made
    assert seed != other
    assert first.observed.shape == (make_problem().opening_length, SPACE.encoded_width + 1)
    assert first.observed.dtype == torch.float64
    assert first.pending is None
    assert second.pending.shape == (1, SPACE.encoded_width + 1)
    assert second.pending[0, 0] == pytest.approx(0.5, abs=0.01)


def test_what_is_in_training_counts_for_the_analytic_ones_too() -> None:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.random((12, 2)))
    model = fit_model(inputs, np.sin(3 * inputs[:, 0].numpy()), 2)
    there = torch.full((1, 2), 0.95, dtype=torch.float64)
    believing = believer(model, there)
    before, after = model.posterior(there), believing.posterior(there)
    assert after.mean.item() == pytest.approx(before.mean.item(), abs=1e-3)
    assert after.variance.item() < before.variance.item()
    assert model.train_inputs[0].shape == (12, 2)


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_many_candidates_at_once_are_rated_as_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.random((24, 5)))
    model = fit_model(inputs, np.sin(3 * inputs[:, 0].numpy()) + inputs[:, 4].numpy(), 3)
    asked, pending = (torch.from_numpy(rng.random(shape)) for shape in ((9, 1, 5), (2, 5)))
    rated = []
    for at_once in (True, False):
        if not at_once:
            monkeypatch.delattr(KernelGP, "posterior")  # BoTorch's own, which it inherits
        torch.manual_seed(0)
        function = ACQUISITIONS[name](model, inputs, pending, 0)
        points = asked.clone().requires_grad_()
        values = function(points)
        (gradient,) = torch.autograd.grad(values.sum(), points)
        rated.append((values.detach(), gradient))
    torch.testing.assert_close(rated[0], rated[1], rtol=1e-6, atol=1e-8)


def test_an_earlier_fit_changes_no_proposal() -> None:
    """A worker that has proposed before begins its fit elsewhere only where all workers do."""
    old = searching(strategy="botorch")
    for _ in range(5):
        trial = old.ask()
        old.tell(trial, value(suggest(trial)))
    new = optuna.create_study(
        direction="maximize", sampler=KernelSampler(make_problem(), "botorch")
    )
    new.add_trials(old.trials)
    assert len(new.trials) > 16  # from where on fits are begun by earlier ones
    assert suggest(new.ask()) == suggest(old.ask())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acquisition": "EI"}, "acquisition must be one of qLogNEI, qLogEI, LogEI, LogPI, UCB"),
        ({"acquisition": "UCB", "strategy": "tpe"}, "of the strategy botorch, but .* is tpe"),
        (
            {"acquisition": "UCB", "strategy": logei_candidates_func},
            "of the strategy botorch, but the strategy is a candidates_func",
        ),
    ],
)
def test_wrong_acquisitions(options: dict[str, Any], message: str) -> None:
    space = betanas.space("betanet2", 64, 10)
    with pytest.raises(InputError, match=message):
        betanas.Sampler(space, **options)


def test_what_makes_no_acquisition_function_is_refused() -> None:
    study = searching(strategy="botorch", acquisition=lambda *_: 1.0)
    with pytest.raises(InputError, match=r"must make a BoTorch Acq.*, but .* made a float"):
        study.ask(SPACE.distributions)


def test_the_example_of_the_documentation_runs() -> None:
    blocks = re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", API.read_text())
    (block,) = [block for block in blocks if "def bold(" in block]
    known: dict[str, Any] = {"betanas": betanas, "space": betanas.space("betanet2", 64, 10)}
    exec(textwrap.dedent(block), known)  # noqa: S102 - our own page
    assert isinstance(known["sampler"], betanas.Sampler)
    inputs = torch.rand(5, 2, dtype=torch.float64)
    model = fit_model(inputs, np.arange(5.0), 2)
    assert isinstance(known["bold"](model, inputs, None, 0), UpperConfidenceBound)


# -- candidates_func of a stock BoTorchSampler ----------------------------------------------------


def test_ours_in_a_stock_sampler_proposes_what_is_feasible() -> None:
    proposed = []
    for _ in range(2):
        ours = FeasibleCandidates(SPACE, RULES, "qLogNEI", 0)
        stock = BoTorchSampler(
            candidates_func=ours, n_startup_trials=0, consider_running_trials=True, seed=3
        )
        study = told(stock)
        first = suggest(study.ask())
        for _ in range(2):  # beside the first, which goes on
            trial = study.ask()
            study.tell(trial, value(suggest(trial)))
        proposed.append([first, *(t.params for t in study.trials[-2:])])
    assert proposed[0] == proposed[1]
    assert all(is_feasible(kernel) for kernel in proposed[0])
    assert len({tuple(kernel.values()) for kernel in proposed[0]}) == 3


def test_ours_finds_what_the_stock_function_cannot() -> None:
    """Half of the space is infeasible, and Optuna's BoTorchSampler does not learn it."""
    space = betanas.space("betanet2", 64, 10, {"num_params": 1_000_000})
    ours = betanas.candidates_func(space, acquisition="LogEI")
    study = optuna.create_study(
        direction="maximize",
        sampler=BoTorchSampler(candidates_func=ours, n_startup_trials=4, seed=0),
    )

    def objective(trial: optuna.Trial) -> float:
        architecture = space.suggest(trial)
        return float(len(architecture.layers))

    warm = betanas.Sampler(space, sobol_trials=8, min_feasible=4)
    stock, study.sampler = study.sampler, warm
    study.optimize(objective, n_trials=warm._problem.sobol_length)
    study.sampler = stock
    first = len(study.trials)
    study.optimize(objective, n_trials=3)
    assert [t.state.name for t in study.trials[first:]] == ["COMPLETE"] * 3


def test_ours_says_what_it_cannot_do() -> None:
    ours = FeasibleCandidates(SPACE, RULES, "qLogNEI", 0)
    x, y = torch.rand(4, 6, dtype=torch.float64), torch.rand(4, 1, dtype=torch.float64)
    bounds = torch.stack([torch.zeros(6), torch.ones(6)]).double()
    with pytest.raises(InputError, match="columns of the space's parameters, but got 6"):
        ours(x, y, None, bounds, None)
    with pytest.raises(InputError, match="must have one objective, but got 2"):
        ours(x, torch.rand(4, 2), None, bounds, None)
    with pytest.raises(InputError, match=r"give limits to betanas\.space"):
        ours(x, y, y, bounds, None)


@pytest.mark.parametrize("function", [logei_candidates_func, qei_candidates_func])
def test_a_stock_function_in_our_search_is_kept_feasible(function: Any) -> None:
    proposed = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls it experimental
            study = searching(strategy=function)
            proposed.append([suggest(study.ask()) for _ in range(2)])
    assert proposed[0] == proposed[1]
    assert all(is_feasible(kernel) for kernel in proposed[0])
    assert proposed[0][0] != proposed[0][1]


def test_a_function_sees_the_unit_cube_and_its_draw_is_moved_inside() -> None:
    seen = []

    def corner(*given: torch.Tensor | None) -> torch.Tensor:
        seen.append(given)
        high = given[3][1:].clone()  # nine layers of width 512, which is infeasible
        high[0, 3:] = torch.tensor([0.1, 0.2, 0.7])
        return high

    study = searching(strategy=corner)
    kernel = suggest(study.ask())
    assert is_feasible(kernel)
    assert kernel["layers"] * kernel["width"] > 40  # nearer to the corner than to nothing
    x, y, constraints, bounds, pending = seen[0]
    kernels = SPACE.vectors([t.params for t in study.trials[:-1]])
    np.testing.assert_array_equal(x.numpy(), SPACE.encode(kernels))
    assert y.shape == (len(kernels), 1)
    assert bounds.shape == (2, SPACE.encoded_width)
    assert (constraints, pending) == (None, None)


def test_decoding_is_the_inverse_of_encoding() -> None:
    kernels = drawn()
    np.testing.assert_allclose(SPACE.decode(SPACE.encode(kernels)), kernels)
    assert (SPACE.encode(kernels) <= SPACE.encoded_high + 1e-12).all()
