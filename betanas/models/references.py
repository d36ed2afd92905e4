"""torchvision's classifiers by name: as they are, for small pictures, from published weights."""

import re
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision import models

from betanas.architecture.reference import SMALL_STEM, ReferenceModel
from betanas.data.published import downloading
from betanas.errors import InputError

# They answer with more than logits, or want one input side only.
_OTHER_KINDS = ("googlenet", "inception", "vit", "maxvit", "quantized")
# They begin with a convolution of stride 2, some with a pooling behind it.
_STEMMED = (
    "densenet", "efficientnet", "mnasnet", "mobilenet", "regnet", "resnet", "resnext",
    "shufflenet", "wide_resnet",
)  # fmt: skip
# How densenet's published weights are called, and how its modules have been since.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")


def reference_names() -> list[str]:
    """The names of torchvision's classifiers that can take the place of ours."""
    names = models.list_models(module=models)
    return [name for name in names if not name.startswith(_OTHER_KINDS)]


def check_torchvision(name: str) -> None:
    """Raises InputError if torchvision has no classifier of that name, or not with that stem."""
    plain = name.removesuffix(SMALL_STEM)
    if plain not in reference_names():
        raise InputError(f"torchvision has no classifier {plain!r}")
    if plain != name and not plain.startswith(_STEMMED):
        raise InputError(
            f"{name} must begin with a convolution of stride 2, for {SMALL_STEM} to make it one of "
            f"size 3 and stride 1, but {plain} does not; these do: {', '.join(_STEMMED)}"
        )


def build_torchvision(network: ReferenceModel) -> nn.Module:
    """Builds one with fresh weights; with ``SMALL_STEM`` behind its name for small pictures."""
    name = network.name.removesuffix(SMALL_STEM)
    model: nn.Module = models.get_model(name, weights=None, num_classes=network.num_classes)
    if name != network.name:
        _keep_resolution(model)
    return model


def _keep_resolution(model: nn.Module) -> None:
    """Makes the first convolution one of size 3 and stride 1, and drops a max pooling behind it.

    As He et al. (2016, section 4.2) do for CIFAR-10, whose 32 pixels would be 8 behind a ResNet's.
    """
    modules = list(model.named_modules())
    (first, stem), (second, _) = [m for m in modules if isinstance(m[1], nn.Conv2d)][:2]
    assert isinstance(stem, nn.Conv2d)  # noqa: S101 - as it was found
    if stem.kernel_size == (3, 3):
        stem.stride = (1, 1)
    else:
        smaller = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(smaller.weight, mode="fan_out", nonlinearity="relu")
        model.set_submodule(first, smaller)
    for name, module in modules[: [name for name, _ in modules].index(second)]:
        if isinstance(module, nn.MaxPool2d):
            model.set_submodule(name, nn.Identity())


def load_pretrained(model: nn.Module, network: ReferenceModel) -> None:
    """Gives a model torchvision's newest weights for it; its last layer stays as it is.

    They are read from torch's cache (``TORCH_HOME``), after a download where they are not there;
    only tensors are read, never code.

    Args:
        model: As ``build_torchvision`` builds it; changed in place.
        network: What it is.

    Raises:
        InputError: If they cannot be had, or do not fit.
    """
    name = network.name
    published = models.get_model_weights(name.removesuffix(SMALL_STEM)).DEFAULT
    url, folder = published.url, f"{torch.hub.get_dir()}/checkpoints"
    file = f"{folder}/{urlparse(url).path.rsplit('/', 1)[-1]}"
    try:
        with downloading():
            found = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        _fill(model, found, network.num_classes)
    # Among them URLError, timeouts, other checksums, other shapes, and what damaged files lead to.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"--pretrained: {name} must have its weights {published.name}, but {file}, and "
            f"downloading {url}, gave none that fit ({reason}); put that file there (TORCH_HOME "
            "says where torch's folder is), or leave --pretrained out"
        ) from None


def _fill(model: nn.Module, found: dict[str, Tensor], num_classes: int) -> None:
    """Takes over all weights but the head's, each of which must be there.

    Raises:
        ValueError: For weights of another network.
        RuntimeError: Likewise; torch's.
    """
    found = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in found.items()}
    head = _head(model, num_classes)
    kept = {name: value for name, value in found.items() if not name.startswith(f"{head}.")}
    weights = model.state_dict()  # it tells versions, without which MNASNet takes no weights
    for name in weights.keys() - kept.keys():
        # Older files lack these counters, which nothing reads.
        if not name.startswith(f"{head}.") and not name.endswith("num_batches_tracked"):
            raise ValueError(f"it has no {name}")
    weights.update(kept)
    model.load_state_dict(weights)


def _head(model: nn.Module, num_classes: int) -> str:
    """The name of the last layer: a linear one, or SqueezeNet's convolution."""
    found: list[str] = [
        name
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == num_classes)
        or (isinstance(module, nn.Conv2d) and module.out_channels == num_classes)
    ]
    return found[-1]
