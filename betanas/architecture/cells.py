"""Cells: small graphs of operations, and networks that repeat one of them.

The topology space of NAS-Bench-201 (Dong and Yang, 2020): four nodes; each but the first, which is
the cell's input, is the sum of one operation applied to every node before it; the last is its
output. A network of them is a chain of layers like any other, some of which are the cell.
"""

import hashlib
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import permutations
from typing import Any, Self

import numpy as np

from betanas.architecture.layers import Architecture
from betanas.arrays import BoolArray, IntArray
from betanas.errors import InputError

# From node, to node: the order in which the literature writes a cell's operations.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # from the input to the output, as edges


class Operation(StrEnum):
    """What an edge applies, under NAS-Bench-201's names; convolutions are ReLU, conv, norm."""

    NONE = "none"
    SKIP = "skip_connect"
    CONV_1X1 = "nor_conv_1x1"
    CONV_3X3 = "nor_conv_3x3"
    POOL = "avg_pool_3x3"


OPERATIONS = tuple(Operation)  # their codes in arrays are their places
NONE, SKIP, CONV_1X1, CONV_3X3, POOL = range(5)
_CONVOLUTIONS = (Operation.CONV_1X1, Operation.CONV_3X3)
_FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
_PATTERN = re.compile(re.escape(_FORM).replace(r"\{\}", r"(\w+)"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

        >>> str(Cell.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"))
        '|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|'

    Attributes:
        operations: One for each of ``EDGES``.
    """

    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES):
            raise InputError(
                f"a cell must have {len(EDGES)} operations, but got {len(self.operations)}"
            )

    def __str__(self) -> str:
        """The literature's form: the operations into each node, and the node each one reads."""
        return _FORM.format(*self.operations)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the literature's form.

        Raises:
            InputError: For another form, or an operation that there is not.
        """
        found = _PATTERN.fullmatch(text.strip())
        names = found.groups() if found else ()
        if not names or not set(names) <= set(OPERATIONS):
            raise InputError(
                f"a cell must have the form {_FORM.format(*['OP'] * 6)} with each OP one of "
                f"{', '.join(OPERATIONS)}, but got {text!r}"
            )
        return cls(tuple(map(Operation, names)))

    @property
    def identity(self) -> str:
        """Equal exactly for cells that compute the same functions with the same free weights.

        What reaches the output is written as nested sums: without what is multiplied by 0 or read
        by nobody, a skip connection being what it hands on, terms in order. Equal convolutions have
        a number, since one that is read twice is not the same as two.

        Of the 15,625 cells 5,260 differ. Dong and Yang count 6,466 by strings in which some zeros
        stay, and a convolution that is read twice is written as two.
        """
        return _identity(self.operations)


@lru_cache(maxsize=2**14)
def _identity(operations: tuple[Operation, ...]) -> str:
    """The first of all ways to write a cell down that differ in the convolutions' numbers."""
    edges = [i for i, operation in enumerate(operations) if operation in _CONVOLUTIONS]
    orders = permutations(map(str, range(len(edges))))
    return min(_written(operations, dict(zip(edges, order, strict=True))) for order in orders)


def _written(operations: tuple[Operation, ...], numbers: dict[int, str]) -> str:
    """The output as nested sums; ``numbers`` has each convolution's, by its edge."""
    sums = [["x"]]
    for node in range(1, 4):
        terms: list[str] = []
        into = [i for i, (_, target) in enumerate(EDGES) if target == node]
        for i, read in zip(into, sums, strict=True):
            if operations[i] is Operation.NONE or not read:
                continue
            whole = [f"{operations[i]}{numbers.get(i, '')}({'+'.join(read)})"]
            terms += read if operations[i] is Operation.SKIP else whole
        sums.append(sorted(terms))
    return "+".join(sums[-1])


def live_edges(operations: IntArray) -> tuple[BoolArray, BoolArray]:
    """Which parts of n cells the output depends on.

    Args:
        operations: Places in ``OPERATIONS``, ``n x 6``.

    Returns:
        Of each edge, ``n x 6``, and of each of ``PATHS``, ``n x 4``, whether nothing on the way
        from the input to the output is 0.
    """
    paths = np.stack([np.all(operations[:, p] != NONE, axis=1) for p in PATHS], axis=1)
    edges = [paths[:, [i in p for p in PATHS]].any(axis=1) for i in range(len(EDGES))]
    return np.stack(edges, axis=1), paths


@dataclass(frozen=True)  # no slots: super() does not go together with them
class CellNetwork(Architecture):
    """A network whose layers of block ``CELL`` are all the same cell.

    Before them comes a ``CN``, ``RED`` halve the side; behind the last layer come batch norm, ReLU,
    global average pooling and the linear layer.

    Attributes:
        cell: What every ``CELL`` consists of.
    """

    cell: Cell

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal exactly for equal chains of cells of equal identity."""
        chain = super().fingerprint
        return hashlib.sha256(f"{chain} {self.cell.identity}".encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``; ``from_json`` gives back an equal network."""
        return asdict(self) | {"cell": str(self.cell)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        return super().from_json({**data, "cell": Cell.parse(data["cell"])})
