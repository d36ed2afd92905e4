"""The published tables (BETANET.md section 3), row by row."""

import csv
import itertools
from pathlib import Path

import pytest
from drawn_kernels import FAMILY_NAMES

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture, Layer

GOLDEN = Path(__file__).parents[1] / "golden"

# Four decimals, as recovered from the report's printed tables.
PUBLISHED = {
    "betanet2": "k 3.2288 K 3.9504 Da 0.0471 Db 0.3262 Wa 0.5 Wb -0.0287 G0 2.0006 G1 2.4832 "
    "B 0.2897 E0 3.1174 E1 2.0 S0 18.1381 S1 19.9316",
    "betanet3": "k 3.5857 K 3.0860 Da -0.1650 Db 0.3865 WLa -0.3313 WLb 0.4973 WCa 0.1491 "
    "WCb 0.0790 G0 2.5780 G1 2.3262 B 0.1545 E0 4.6058 E1 4.5372 S0 21.9227 S1 19.9361",
}


def published(family: str, resolution: int = 224) -> Architecture:
    return decode(FAMILIES[family], FAMILIES[family].published, resolution, 100)


def rows(architecture: Architecture) -> list[list[Layer]]:
    def shape(y: Layer) -> tuple[object, ...]:
        return y.block, y.in_channels, y.out_channels, y.stride

    return [list(group) for _, group in itertools.groupby(architecture.layers, shape)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def read_table(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("family", "table", "tolerance"),
    [
        ("betanet2", "table_a1.csv", 0.0),
        ("betanet3", "table_a3.csv", 0.01),  # the report's own rounding of single rows
    ],
)
def test_layer_table(family: str, table: str, tolerance: float) -> None:
    printed, built = read_table(table), rows(published(family))
    assert len(built) == len(printed)
    for row, layers in zip(printed, built, strict=True):
        first = layers[0]
        assert [str(first.block), first.in_channels, first.out_channels, first.stride] == [
            row["block"],
            int(row["in"]),
            int(row["out"]),
            int(row["stride"]),
        ]
        assert len(layers) == int(row["repeats"]), row
        expansion = round(mean([y.expansion_ratio for y in layers]), 2)
        se_ratio = round(mean([y.se_ratio for y in layers]), 2)
        assert abs(expansion - float(row["expansion"])) <= tolerance + 1e-9, row
        assert abs(se_ratio - float(row["se_ratio"])) <= tolerance + 1e-9, row


@pytest.mark.parametrize(
    ("family", "num_params"), [("betanet2", 8_859_193), ("betanet3", 5_112_268)]
)
def test_exact_weights_at_224(family: str, num_params: int) -> None:
    assert count(published(family), 100).num_params == num_params


@pytest.mark.parametrize(("family", "millions"), [("betanet2", 30.01), ("betanet3", 14.63)])
def test_weights_of_the_scaled_up_models(family: str, millions: float) -> None:
    num_params = count(published(family, resolution=384), 100).num_params
    assert round(num_params / 1e6, 2) == millions


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_kernels(family: str) -> None:
    words = PUBLISHED[family].split()
    kernel = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    assert FAMILIES[family].published == kernel
    assert tuple(kernel) == FAMILIES[family].names


@pytest.mark.parametrize(
    ("family", "table"), [("betanet2", "table_a1.csv"), ("betanet3", "table_a3.csv")]
)
def test_published_kernels_round_to_the_printed_head(family: str, table: str) -> None:
    # The head's ratios are E0 and S0 themselves.
    head, kernel = read_table(table)[0], FAMILIES[family].published
    assert (f"{kernel['E0']:.2f}", f"{kernel['S0']:.2f}") == (head["expansion"], head["se_ratio"])


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_kernels_lie_inside_the_ranges(family: str) -> None:
    ranges = FAMILIES[family].ranges
    for name, value in FAMILIES[family].published.items():
        low, high = ranges[name]
        assert low <= value <= high, name


def test_ranges_hold_what_the_report_found_outside_its_own() -> None:
    for family in (FAMILIES[name] for name in FAMILY_NAMES):
        for name, value in (("K", 4.30), ("E0", 5.07), ("E1", 5.07), ("S0", 29.90), ("S1", 29.90)):
            low, high = family.ranges[name]
            assert low <= value <= high, name


def test_ranges_are_the_published_ones() -> None:
    log = (-0.5, 0.5)
    shared = {
        "k": (2, 10), "K": (2, 5), "Da": log, "Db": log, "G0": (2, 5), "G1": (1, 3), "B": (0, 1),
        "E0": (2, 6), "E1": (2, 6), "S0": (10, 30), "S1": (10, 30),
    }  # fmt: skip
    assert FAMILIES["betanet2"].ranges == shared | {"Wa": (0, 0.5), "Wb": (-0.5, 0)}
    own = dict.fromkeys(("WLa", "WLb", "WCa", "WCb"), log)
    assert FAMILIES["betanet3"].ranges == shared | own
    for family in (FAMILIES[name] for name in FAMILY_NAMES):
        for name, (low, high) in family.ranges.items():
            least, most = family.domain[name]
            assert least <= low < high <= most, name
