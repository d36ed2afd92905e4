"""Overrides of a study that is complete, and values that it does not give."""

from pathlib import Path

import pytest

import betanas
from betanas.errors import InputError, StudyFileError
from betanas.measures.table import _csv_rows
from betanas.parameters import Choice, Real
from betanas.study.loading import changed_definition, load_definition
from betanas.study.recipe import Budget


@pytest.mark.parametrize("preset", ["short", "fast", "published"])
@pytest.mark.parametrize("study", ["digits", "pictures", "cifar10"])
def test_another_preset_takes_the_place_of_the_files_own(study: str, preset: str) -> None:
    override = [f"recipe.preset={preset}"]
    changed = changed_definition(load_definition(study), override, None)
    assert changed.recipe == load_definition(study, override).recipe
    keys = [*override, "recipe.momentum=0.3"]
    assert changed_definition(load_definition(study), keys, None).recipe.momentum == 0.3


def test_a_study_without_a_recipe_takes_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "bare.toml"
    file.write_text(
        'family = "betanet2"\nresolution = 32\n[dataset]\nname = "digits"\n[budget]\nsteps = 4\n'
    )
    changed = changed_definition(load_definition(file), ["recipe.preset=short"], None)
    assert changed.recipe == load_definition(file, ["recipe.preset=short"]).recipe


def test_what_starts_a_search_has_the_recipes_own_values() -> None:
    searched = {"recipe.warm_up": {"low": 0.0, "high": 0.5}}
    depth = {"recipe.stochastic_depth": {"low": 0.0, "high": 0.5}}
    own = load_definition("cifar10", searched | depth).beside  # one cycle, of plain blocks
    assert own == {"recipe.warm_up": 0.3, "recipe.stochastic_depth": 0.0}
    assert load_definition("betanet2", searched | depth).beside == {
        "recipe.warm_up": 0.0,
        "recipe.stochastic_depth": 0.2,
    }


@pytest.mark.parametrize("objective", ["naswot", "synflow", "rank(naswot, macs)"])
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"objectives": ["accuracy", "latency"]}, "objectives with latency needs a trial"),
        ({"objective.latency_weight": 0.1}, r"objective.latency_weight = 0.1 needs a trial"),
        ({"search.finals": "15m"}, "search.finals = 15m trains the best for longer"),
    ],
)
def test_what_trains_nothing_measures_no_latency_and_has_no_finals(
    objective: str, wanted: dict[str, object], told: str
) -> None:
    with pytest.raises(StudyFileError, match=told):
        load_definition("digits", {"objective.name": objective, **wanted})


def test_a_space_alone_cannot_hold_a_latency() -> None:
    with pytest.raises(InputError, match=r"limits.latency_ms = 2 needs a study"):
        betanas.space("betanet2", 64, 10, limits={"latency_ms": 2.0})


def test_a_range_without_the_priors_mean_has_no_prior() -> None:
    width = Real("w", 8, 64, prior=(16, 4))
    assert width.narrowed([8, 32]).prior == (16, 4)
    assert width.narrowed([32, 64]).prior is None
    assert width.narrowed(32).range == (32, 32)
    with pytest.raises(ValueError, match=r"parameters.x must be > 0 on a log scale"):
        Real("x", 1, 4, (-1, 4), log=True).narrowed([0, 1])


def test_options_are_texts() -> None:
    with pytest.raises(InputError, match=r"options that are texts, but got \(3, 5\)"):
        Choice("c", (3, 5))  # type: ignore[arg-type] - what is tested


def test_names_in_any_letters_and_tables_from_a_spreadsheet(tmp_path: Path) -> None:
    folder = tmp_path / "Fotos 📷"
    found = load_definition("pictures", {"dataset.root": folder})
    assert found.dataset.root == str(folder)
    (tmp_path / "table.csv").write_text("k,value\n1,2\n", encoding="utf-8-sig")
    assert _csv_rows(tmp_path / "table.csv") == [{"k": "1", "value": "2"}]


@pytest.mark.parametrize(
    ("override", "finals"),
    [
        ("search.finals=2e3", Budget(seconds=2000)),
        ('search.finals="1.5e3s"', Budget(seconds=1500)),
        ("search.finals=2e16", Budget(seconds=2e16)),
        ('search.finals="2E3 s"', Budget(seconds=2000)),
    ],
)
def test_finals_in_powers_of_ten(override: str, finals: Budget) -> None:
    assert load_definition("digits", [override]).finals == finals


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400", "true", "[5]", "-5", "0", "1e31"])
def test_finals_that_are_no_amount(value: str) -> None:
    with pytest.raises(StudyFileError, match=r"search\.finals must be a time such as 15m"):
        load_definition("digits", [f"search.finals={value}"])


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("search.sobol_trials=99999999999", "search.sobol_trials must be <= 100000, but got"),
        ("search.min_feasible=99999999999", "search.min_feasible must be <= 100000, but got"),
        ("recipe.batch_size=99999999999999999999", "recipe.batch_size must be <= 100000, but"),
        ("recipe.batch_size={low = 2, high = 1e300}", "recipe.batch_size: .* or equal to 100000"),
        ("limits.memory_gib=1e308", "limits.memory_gib must be <= 1e.09, but got 1e.308"),
    ],
)
def test_numbers_beyond_sense(override: str, rule: str) -> None:
    """They ended in a traceback, or never."""
    with pytest.raises(StudyFileError, match=rule):
        load_definition("digits", [override])
