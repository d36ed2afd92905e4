import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betanas.data import split_indices
from betanas.errors import DataError


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(10, 60), min_size=2, max_size=6),
    validation=st.floats(0.15, 0.8),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_a_stratified_deterministic_partition(
    counts: list[int], validation: float, seed: int
) -> None:
    order = np.random.default_rng(seed)
    labels = order.permutation(np.repeat(np.arange(len(counts)), counts))
    train, held_out = split_indices(labels, validation, seed)
    again = split_indices(labels, validation, seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(held_out, again[1])
    assert train.dtype == held_out.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held_out) > 0).all()
    share = len(held_out) / len(labels)
    assert abs(np.bincount(labels[held_out]) - share * np.array(counts)).max() <= 1


def test_seed_changes_the_split() -> None:
    labels = np.repeat([0, 1], 50)
    assert not np.array_equal(split_indices(labels, 0.2, 0)[1], split_indices(labels, 0.2, 1)[1])


def test_number_of_images() -> None:
    _, held_out = split_indices(np.repeat([0, 1, 2], 20), 15.0, 0)
    assert len(held_out) == 15


@pytest.mark.parametrize(
    ("counts", "validation", "rule"),
    [
        ([10, 10], 20, "must leave images to train on, but got 20 of 20 images"),
        ([10, 10, 10], 2, "every class must be in the training and in the validation part"),
        ([10, 10, 10], 28, "every class must be in"),
        (
            [100, 4],
            0.05,
            r"label 1, has 4\); hold out a fraction from 0.25 to 0.75",
        ),
        ([100, 2], 0.1, "hold out 0.5"),
        ([10, 1], 0.5, "give each class at least 2 images"),
        ([10, 10], 0, "must be > 0"),
    ],
)
def test_too_few_images(counts: list[int], validation: float, rule: str) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    with pytest.raises(DataError, match=rule):
        split_indices(labels, validation, 0)


def test_cure_for_a_small_class_helps() -> None:
    labels = np.repeat([0, 1], [100, 4])
    for validation in (0.25, 0.75):
        assert all(
            len(np.unique(labels[part])) == 2 for part in split_indices(labels, validation, 0)
        )


def test_seed_out_of_range() -> None:
    with pytest.raises(DataError, match=r"split_seed must be in \[0, 2\*\*32\)"):
        split_indices([0, 0, 1, 1], 0.5, 2**32)


@pytest.mark.parametrize("each", [2, 3, 6, 7, 9, 11])
def test_the_cure_for_small_classes_cures(each: int) -> None:
    labels = np.repeat(np.arange(100), each)
    with pytest.raises(DataError) as found:
        split_indices(labels, 0.01, 0)
    for fraction in re.findall(r"0\.\d+", str(found.value).partition("hold out")[2]):
        train, held_out = split_indices(labels, float(fraction), 0)
        assert len(set(labels[train])) == len(set(labels[held_out])) == 100
