"""The family mbconv: counted as it is built, and laid out as published."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from test_betamix import saved_bytes

from betanas.architecture.complexity import count
from betanas.architecture.layers import Architecture, Block
from betanas.architecture.mbconv import BLOCKS, CHOICES, MBCONV, SKIP
from betanas.errors import KernelError
from betanas.models.network import build_model, count_macs
from betanas.search.space import Space
from betanas.study.definition import StudyDefinition

BATCH = 4
GOLDEN = Path(__file__).parents[1] / "golden" / "mbconv.csv"
SMALL = {"stem": 1, "stages": 3, "blocks": 2, "width": 0.5, "tail": 64, "head": 96}
DATASET = {"name": "cifar10"}


def drawn(number: int, seed: int, **fixed: float) -> list[dict]:
    """Kernels of random blocks, of the published shape or another."""
    space = Space(MBCONV.parameters)
    kernels = space.kernels(np.random.default_rng(seed).random((number, len(space.names))))
    return [space.kernel(kernel) | fixed for kernel in kernels]


@pytest.mark.parametrize("choice", BLOCKS)
def test_counts_are_those_of_the_module_for_each_choice(choice: str) -> None:
    kernel = MBCONV.published | {n: choice for n in MBCONV.names if n.startswith("s") and "b" in n}
    check_counts(MBCONV.decode(kernel | SMALL, 32, 10))


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_module_for_random_networks(seed: int) -> None:
    shape = SMALL | {"stem": 1 + seed % 2, "stages": 2 + seed, "blocks": 4, "width": 0.2 + seed / 9}
    check_counts(MBCONV.decode(drawn(1, seed, **shape)[0], 33, 7))


def check_counts(architecture: Architecture) -> None:
    model, costs = build_model(architecture).train(), count(architecture, BATCH)
    side = architecture.resolution
    assert sum(p.numel() for p in model.parameters()) == costs.num_params
    assert count_macs(model, side) == costs.macs
    saved = saved_bytes(model.train(), torch.randn(BATCH, 3, side, side))
    assert saved == pytest.approx(costs.activation_bytes, rel=0.02)
    assert Architecture.from_json(architecture.to_json()) == architecture


def test_the_published_shape_is_that_of_the_golden_table() -> None:
    """Table 1 of Stamoulis et al. (2019) with all blocks 5x5-6, at R=224."""
    with GOLDEN.open(encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    layers = MBCONV.decode(MBCONV.members["mbconv-5x5-6"], 224, 1000).layers
    assert len(layers) == len(expected) == 23
    for layer, row in zip(layers, expected, strict=True):
        found = {name: str(getattr(layer, name)) for name in row}
        assert found == row


def test_a_skipped_block_is_not_there_and_the_others_do_not_change() -> None:
    kernel = dict(MBCONV.members["mbconv-5x5-6"])
    whole = MBCONV.decode(kernel, 224, 10)
    without = MBCONV.decode(kernel | {"s2b3": SKIP, "s5b4": SKIP}, 224, 10)
    gone = {2 + 4 + 2, 2 + 4 * 4 + 3}
    assert without.layers == tuple(y for i, y in enumerate(whole.layers) if i not in gone)


def test_the_first_block_of_a_stage_changes_the_shape_and_cannot_be_skipped() -> None:
    for p in MBCONV.parameters[6:]:
        assert p.range == (BLOCKS if p.name.endswith("b1") else CHOICES)
    with pytest.raises(KernelError, match=r"kernel.s3b1 must be one of .*, but got 'skip'"):
        MBCONV.vector(MBCONV.published | {"s3b1": SKIP})


def test_smaller_shapes_are_parameters() -> None:
    network = MBCONV.decode(MBCONV.published | SMALL, 32, 10)
    assert [y.out_channels for y in network.layers] == [16, 8, 16, 16, 24, 24, 40, 40, 32]
    assert [y.out_resolution for y in network.layers] == [32, 32, 16, 16, 8, 8, 4, 4, 4]
    assert network.latent_channels == 96
    assert [y.block for y in network.layers] == [Block.CNA] + [Block.MBC] * 8


@pytest.mark.parametrize("resolution", [16, 33, 224, 512])
def test_many_kernels_are_surveyed_as_one_by_one(resolution: int) -> None:
    kernels = [*drawn(5, 1), *drawn(5, 2, stages=3, width=0.3), *drawn(5, 3, blocks=2, stem=1)]
    vectors = np.array([MBCONV.vector(kernel) for kernel in kernels])
    together = MBCONV.survey(vectors, resolution, 10, BATCH)
    assert not together.trivial.any()
    for i, kernel in enumerate(kernels):
        alone = MBCONV.decode(kernel, resolution, 10)
        assert together.complexities.row(i) == count(alone, BATCH)
        assert alone.layers[-1].out_channels == 8 * round(320 * kernel["width"] / 8)


def test_a_study_fixes_the_blocks_that_its_networks_do_not_have() -> None:
    given = {"stages": 2, "blocks": 3, "s1b2": ["3x3-3", "skip"]}
    study = StudyDefinition.model_validate(
        {
            "name": "mine", "family": "mbconv", "resolution": 32, "parameters": given,
            "dataset": DATASET, "budget": {"steps": 1},
        }
    )  # fmt: skip
    free = [study.searched[i].name for i in Space(study.searched).free]
    assert free == ["s1b1", "s1b2", "s1b3", "s2b1", "s2b2", "s2b3"]
    assert study.parameters["s1b2"] == ("3x3-3", "skip")
