"""The seam of Optuna's ``BoTorchSampler``, ``candidates_func``, in both directions.

``FeasibleCandidates`` is ours for a stock ``BoTorchSampler``; ``CandidatesStrategy`` lets somebody
else's ``candidates_func`` propose in our search, its draws projected into the feasible set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna._transform import _SearchSpaceTransform

from betanas.arrays import FloatArray
from betanas.errors import InputError
from betanas.search.acquisitions import Acquisition
from betanas.search.botorch_strategy import BoTorchProposer, Evidence
from betanas.search.rules import Rules
from betanas.search.situation import Situation
from betanas.search.space import Space
from betanas.search.surrogate import one_thread

if TYPE_CHECKING:
    from torch import Tensor

# From train_x, n x e, train_obj, n x 1, train_con, None, bounds, 2 x e, and pending_x, p x e or
# None, to one candidate, 1 x e: tensors all of them.
CandidatesFunction = Callable[..., Any]


class FeasibleCandidates:
    """A ``candidates_func`` that proposes feasible kernels only; made by ``candidates_func``.

    Args:
        space: The ranges.
        rules: What is feasible.
        acquisition: As ``betanas.Sampler`` takes it.
        seed: Of the pool of feasible kernels; all else is drawn from torch's global generator,
            which ``BoTorchSampler`` seeds.
    """

    def __init__(self, space: Space, rules: Rules, acquisition: Acquisition, seed: int) -> None:
        self._space, self._rules = space, rules
        self._proposer = BoTorchProposer(space, seed, acquisition)
        # BoTorchSampler orders its columns by the parameters' names, and encodes them like this.
        self._columns = _SearchSpaceTransform(dict(sorted(space.searched.items())))

    def __call__(
        self,
        train_x: Tensor,
        train_obj: Tensor,
        train_con: Tensor | None,
        bounds: Tensor,
        pending_x: Tensor | None,
    ) -> Tensor:
        """One candidate, ``1 x e``.

        Args:
            train_x: Measured parameters as Optuna encodes them, ``n x e``.
            train_obj: Their values, more is better, ``n x 1``.
            train_con: None: what is feasible is known.
            bounds: Of the parameters, ``2 x e``.
            pending_x: Parameters in training, ``p x e``, or None.

        Raises:
            InputError: For several objectives, constraints, or parameters beside the space's.
            RuntimeError: If no candidate was found.
        """
        import torch

        if train_obj.shape[-1] != 1:
            raise InputError(
                f"candidates_func must have one objective, but got {train_obj.shape[-1]}"
            )
        if train_con is not None:
            raise InputError(
                "candidates_func knows what is feasible: leave constraints out, and give limits "
                "to betanas.space"
            )
        ours = self._columns.bounds.T
        if tuple(bounds.shape) != ours.shape or not np.allclose(bounds.cpu().numpy(), ours):
            raise InputError(
                f"candidates_func must be given the {ours.shape[1]} columns of the space's "
                f"parameters, but got {bounds.shape[-1]} of other bounds; let the objective "
                "ask for the space's parameters only, by space.suggest(trial)"
            )
        kernels = self._kernels(train_x)
        pending = kernels[:0] if pending_x is None else self._kernels(pending_x)
        values = train_obj[:, 0].cpu().numpy().astype(np.float64)
        evidence = Evidence(kernels, values, np.zeros(len(values)), pending)
        known = {self._rules.identity(kernel) for kernel in (*kernels, *pending)}
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        kernel, trouble = self._proposer.propose(self._rules, evidence, known, rng)
        if kernel is None:
            raise RuntimeError(f"no candidate: {trouble}")
        named = self._space.kernel(kernel)
        row = self._columns.transform({name: named[name] for name in self._space.searched})
        return torch.from_numpy(row).to(train_x).unsqueeze(0)

    def _kernels(self, encoded: Tensor) -> FloatArray:
        """From Optuna's columns, ``n x e``, to kernels, ``n x d``."""
        fixed = self._space.kernel(self._space.low)
        rows = encoded.detach().cpu().double().numpy()
        return self._space.vectors([fixed | self._columns.untransform(row) for row in rows])


class CandidatesStrategy:
    """Somebody else's ``candidates_func`` in our search.

    It is given the measured and the failed kernels on the unit cube, one column an option of a
    choice, as the search's own model sees them; of several objectives the accuracy and negative
    logarithms of the costs, more of each is better. A draw that is infeasible, or known, moves to
    the nearest feasible point on its way to the nearest measured kernel.

    Args:
        space: The ranges.
        function: ``optuna_integration.botorch.logei_candidates_func``, or one of that signature;
            with several objectives ``qehvi_candidates_func`` or one like it.
    """

    def __init__(self, space: Space, function: CandidatesFunction) -> None:
        self._space, self._function = space, function

    def propose(
        self, situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The feasible kernel nearest to what the function draws."""
        if not situation.complete:
            return None, "no complete trial to learn from"
        try:
            kernel = self._drawn(situation, int(rng.integers(2**31)))
        except (ArithmeticError, RuntimeError, ValueError) as error:
            return None, f"candidates_func found nothing: {str(error).splitlines()[0]}"
        if situation.admits(kernel):
            return kernel, ""
        moved = situation.nearby(kernel)
        return moved, "nothing feasible and new lies near what candidates_func drew"

    def _drawn(self, situation: Situation, seed: int) -> FloatArray:
        """What the function draws, as a kernel, ``d``."""
        import torch

        space, failed = self._space, situation.failed
        values = situation.outcomes
        kernels = np.concatenate([situation.kernels, failed])
        told = np.concatenate([values, np.tile(values.min(axis=0), (len(failed), 1))])

        def tensor(some: FloatArray) -> Tensor:
            return torch.from_numpy(some).double()

        waiting = tensor(space.encode(situation.pending)) if len(situation.pending) else None
        bounds = tensor(np.stack([np.zeros(space.encoded_width), space.encoded_high]))
        with one_thread(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            found = self._function(
                tensor(space.encode(kernels)), tensor(told), None, bounds, waiting
            )
        rows = found.detach().cpu().double().reshape(-1, space.encoded_width)
        if len(rows) != 1:
            raise InputError(f"candidates_func must return one candidate, but got {len(rows)}")
        return np.asarray(space.decode(rows.numpy())[0])
