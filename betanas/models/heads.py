"""What a network has at its end for the time of its training: dropout, an auxiliary head."""

from torch import Tensor, nn
from torch.nn.functional import dropout

AUXILIARY = "auxiliary"
"""The name of the submodule that gives a second answer, from half-way, while a network trains
(Szegedy et al., 2015, "Going deeper with convolutions"): ``forward`` then returns both."""


def set_dropout(model: nn.Module, probability: float) -> None:
    """Drops features before the last linear layer while the model trains (Srivastava et al., 2014).

    Dropout that the network has by itself takes the probability instead.

    Args:
        model: Changed in place; the names of its weights stay.
        probability: In [0, 1).
    """
    own = [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    for module in own:
        module.p = probability
    if own or not probability:
        return
    linear = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(AUXILIARY)
    ]

    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (dropout(inputs[0], probability, module.training), *inputs[1:])

    linear[-1].register_forward_pre_hook(drop)


def weights_in_use(model: nn.Module) -> dict[str, Tensor]:
    """The ``state_dict`` without what only the training needs."""
    weights = model.state_dict()
    return {n: value for n, value in weights.items() if n.split(".", 1)[0] != AUXILIARY}
