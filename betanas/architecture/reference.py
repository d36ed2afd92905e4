"""Networks of others, by name: what the result of a search is compared with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from betanas.architecture.cells import CellNetwork
from betanas.architecture.layers import Architecture
from betanas.architecture.nasnet_cells import SumCellNetwork

TIMM = "timm:"  # how the names of timm's networks begin
SMALL_STEM = "+3x3"  # behind a name of torchvision's: a first convolution for small pictures


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A network that torchvision or timm has under a name, as frozen data.

    Attributes:
        name: torchvision's name, such as ``mobilenet_v2`` or, for small pictures, ``resnet18+3x3``;
            or timm's, as ``timm:resnet10t``.
        resolution: Input side in pixels; images have three channels.
        num_classes: Outputs of the last linear layer.
    """

    name: str
    resolution: int
    num_classes: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``; ``from_json`` gives back an equal description."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        return cls(**data)


Network = Architecture | ReferenceModel


def network_from_json(data: dict[str, Any]) -> Network:
    """Rebuilds what either's ``to_json`` wrote."""
    if "cell" in data:
        return CellNetwork.from_json(data)
    if "reduction" in data:
        return SumCellNetwork.from_json(data)
    if "layers" in data:
        return Architecture.from_json(data)
    return ReferenceModel.from_json(data)
