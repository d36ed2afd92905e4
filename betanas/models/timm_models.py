"""The classifiers of the package timm (Wightman, 2019), by ``timm:NAME``; it is an extra."""

from importlib.util import find_spec

from torch import nn

from betanas.architecture.reference import TIMM, ReferenceModel
from betanas.errors import InputError


def check_timm(name: str) -> None:
    """Raises InputError if there is no such model, ``timm:NAME``, or no package timm."""
    if find_spec("timm") is None:
        raise InputError(f"{name} needs timm: pip install 'betanas[timm]'")
    import timm  # noqa: PLC0415 - it takes seconds, and few need it

    plain = name.removeprefix(TIMM)
    if not timm.is_model(plain):
        near = timm.list_models(f"*{plain.split('.')[0][:6]}*")[:3]
        hint = f"; there are {', '.join(TIMM + other for other in near)}, ..." if near else ""
        raise InputError(f"timm has no model {plain!r}{hint}")


def build_timm(network: ReferenceModel) -> nn.Module:
    """Builds one with fresh weights; those made for one input side are made for the network's.

    Raises:
        InputError: As ``check_timm``, and for a side that the model cannot have.
    """
    check_timm(network.name)
    import timm  # noqa: PLC0415

    plain = network.name.removeprefix(TIMM)
    fixed = timm.get_pretrained_cfg(plain).fixed_input_size
    side = {"img_size": network.resolution} if fixed else {}
    try:
        built: nn.Module = timm.create_model(
            plain, pretrained=False, num_classes=network.num_classes, **side
        )
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"{network.name} cannot be built at resolution {network.resolution} "
            f"({error}); try that which it was published for"
        ) from None
    return built
