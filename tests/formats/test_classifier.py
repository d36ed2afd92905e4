"""The comparison of an exported model with the trained one sees every mistake that matters."""

import pytest
from exportable import MEAN, NETWORKS, STD, trained_of
from torch import nn

from betanas.errors import RunError
from betanas.formats.classifier import (
    BATCH_SIZES,
    TOLERANCE,
    PixelClassifier,
    answer,
    compare,
    probe_batches,
)


@pytest.mark.parametrize("name", NETWORKS)
def test_small_mistakes_are_beyond_the_tolerance(name: str) -> None:
    trained = trained_of(NETWORKS[name])
    batches = probe_batches(trained.network.resolution)
    assert [len(batch) for batch in batches] == list(BATCH_SIZES)
    assert all(b.min() >= 0 and b.max() <= 1 for b in batches)
    expected = answer(PixelClassifier(trained.build(), MEAN, STD), batches)
    assert compare(expected, expected, "itself") == 0.0

    other_epsilon = trained.build()
    for module in other_epsilon.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 3e-3
    shifted = (MEAN[0] + 1 / 255, *MEAN[1:])
    for mistaken in (
        PixelClassifier(other_epsilon, MEAN, STD),
        PixelClassifier(trained.build(), MEAN[::-1], STD),
        PixelClassifier(trained.build(), shifted, STD),
    ):
        with pytest.raises(RunError, match="but differ by"):
            compare(expected, answer(mistaken, batches), "a mistaken one")
    with pytest.raises(RunError, match="must have the shapes"):
        compare(expected, [logits[:, :-1] for logits in expected], "one class too few")
    with pytest.raises(RunError, match="differ by nan"):
        compare(expected, [logits * float("nan") for logits in expected], "NaN")
    assert TOLERANCE < 1e-3
