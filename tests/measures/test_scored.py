"""Scores as objectives: what they look at, and what of it depends on the trial."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trainings import small_task

import betanas
from betanas.architecture.cells import Cell
from betanas.architecture.efficientnet import EFFICIENTNET
from betanas.architecture.nasbench201 import NASBENCH201, kernel_of_cell
from betanas.errors import DataError
from betanas.images.placement import TrainingImages
from betanas.measures.scored import (
    NaswotObjective,
    SynflowObjective,
    fresh_network,
    image_batches,
    kernel_scorer,
)
from betanas.models.scores import naswot, synflow
from betanas.study.loading import load_definition
from betanas.study.recipe import DatasetConfig
from betanas.trial import trial_seed


def test_naswot_of_a_trial_is_that_of_its_network_and_the_studys_images(tmp_path: Path) -> None:
    definition = load_definition("digits", {"objective.name": "naswot"})
    task = small_task(tmp_path)
    with NaswotObjective(definition, tmp_path) as objective:
        first = objective.run(task, print)
        assert objective.run(task, print).value == first.value
        assert objective.run(replace(task, seed=6), print).value != first.value
    images = TrainingImages.load(definition.dataset, 16, tmp_path)
    batches = image_batches(images, 16, definition.search.seed)
    assert [tuple(b.shape) for b in batches] == 3 * [(128, 3, 16, 16)]
    assert first.value == naswot(fresh_network(task.architecture, task.seed, "cpu"), batches)
    assert (first.device, first.ranks, first.epochs) == ("cpu", 1, 0)


def test_a_network_is_scored_at_its_own_side_as_it_is_trained(tmp_path: Path) -> None:
    definition = load_definition("efficientnet-grid", {"objective.name": "naswot"})
    kernel = {"alpha": 1.0, "beta": 1.0, "gamma": 1.5, "phi": 1.0}
    network = EFFICIENTNET.decode(kernel, definition.resolution, 10)
    assert (definition.resolution, network.resolution) == (16, 24)
    images = TrainingImages.load(definition.dataset, 16, tmp_path)
    batches = image_batches(images, 24, definition.search.seed)
    task = small_task(tmp_path, architecture=network)
    own = naswot(fresh_network(network, task.seed, "cpu"), batches)
    with NaswotObjective(definition, tmp_path) as objective:
        assert objective.run(task, print).value == own
        assert objective.run(small_task(tmp_path), print).value is not None
    drawn = fresh_network(network, trial_seed(definition.search.seed, 3), "cpu")
    score = kernel_scorer(definition, "naswot", 10, tmp_path)
    assert score(kernel, 3) == naswot(drawn, batches)


def test_no_image_is_drawn_twice_nor_from_those_held_out(tmp_path: Path) -> None:
    loaded = TrainingImages.load(DatasetConfig(name="digits", validation=1300), 16, tmp_path)
    seen = torch.arange(len(loaded)).view(-1, 1, 1, 1).expand(-1, 16, 16, 3)
    marked = replace(loaded, images=(seen % 256).to(torch.uint8), mean=(0, 0, 0), std=(1, 1, 1))
    batches = image_batches(marked, 16, seed=1)
    assert [len(b) for b in batches] == 3 * [len(loaded.train) // 3]
    drawn = (torch.cat(batches)[:, 0, 0, 0] * 255).round().long()
    allowed = torch.bincount(loaded.train % 256, minlength=256)
    assert (torch.bincount(drawn, minlength=256) <= allowed).all()
    other = image_batches(marked, 16, seed=2)
    assert not torch.equal(batches[0], other[0])


def test_too_few_images(tmp_path: Path) -> None:
    loaded = TrainingImages.load(DatasetConfig(name="digits"), 16, tmp_path)
    with pytest.raises(DataError, match="has 5 training images; give at least 6"):
        image_batches(replace(loaded, train=loaded.train[:5]), 16, seed=0)


def test_a_network_that_sees_nothing_has_no_score(tmp_path: Path) -> None:
    definition = load_definition("nasbench201-cifar10", {"objective.name": "synflow"})
    blind = NASBENCH201.decode(kernel_of_cell(Cell.parse(
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
    )), 32, 10)  # fmt: skip
    with SynflowObjective(definition, tmp_path) as objective:
        result = objective.run(small_task(tmp_path, architecture=blind), print)
    assert result.value is None
    assert result.failure is not None
    assert result.failure.blames_kernel
    assert "tells no images apart" in result.message


@pytest.mark.slow
def test_a_study_on_synflow_reads_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = {"objective.name": "synflow", "search.sampler": "random"}
    study = betanas.optimize(
        "nasbench201-cifar10", overrides=overrides, trials=6, device="cpu", progress=False
    )
    for record in study.records():
        network = NASBENCH201.decode(record.kernel, 32, 10)
        if record.state == "fail":
            assert record.reason == "diverged"
            continue
        seed = trial_seed(0, record.number)
        assert record.value == synflow(fresh_network(network, seed, "cpu"), 32)
