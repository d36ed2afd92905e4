"""What study files mean: defaults, published values, what may change while a study runs."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from betanas.architecture.complexity import step_bytes
from betanas.architecture.families import FAMILIES
from betanas.data.describe import DatasetFacts
from betanas.database.settings import SCHEMA, Settings, new_settings
from betanas.devices.find import Devices
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition
from betanas.study.feasibility import GIB, memory_bytes, study_feasibility
from betanas.study.loading import load_definition
from betanas.study.meaning import default_meaning
from betanas.study.recipe import Budget, DatasetConfig, Recipe

PUBLISHED = np.array([list(FAMILIES["betanet2"].published.values())])


def define(**changed: Any) -> StudyDefinition:
    least = {
        "name": "mine",
        "family": "betanet2",
        "resolution": 32,
        "dataset": {"name": "digits"},
        "budget": {"steps": 5},
    }
    return StudyDefinition.model_validate(least | changed)


# -- defaults -----------------------------------------------------------------------------------


def test_defaults_are_nearly_the_published_search() -> None:
    d = define()
    assert (d.search.sobol_trials, d.search.trials, d.search.sampler) == (100, 200, "botorch")
    assert (d.limits.num_params, d.limits.memory_gib, d.limits.scaled) == (30_000_000, "auto", None)
    r = d.recipe
    assert (r.batch_size, r.optimizer, r.learning_rate, r.betas) == (
        100,
        "adam",
        1e-3,
        (0.9, 0.999),
    )
    assert (r.schedule, r.patience_epochs) == ("plateau", 5)
    assert (r.autoaugment, r.flip) == (True, True)
    assert d.storage.url is None


@pytest.mark.parametrize("family", ["betanet2", "betanet3", "betamix"])
def test_parameters_left_out_take_the_familys_ranges(family: str) -> None:
    d = define(family=family, parameters={"B": 0.5, "k": [2, 4]})
    assert tuple(d.parameters) == FAMILIES[family].names
    assert d.parameters == FAMILIES[family].ranges | {"B": (0.5, 0.5), "k": (2, 4)}
    assert d.search_family is FAMILIES[family]


def test_parameters_keep_the_familys_order() -> None:
    one = define(parameters={"S1": 20, "k": 3})
    other = define(parameters={"k": 3, "S1": 20})
    assert list(one.parameters) == list(other.parameters) == list(FAMILIES["betanet2"].names)
    assert one == other


# -- built-in studies ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["betanet2", "betanet3"])
def test_published_studies(name: str) -> None:
    d = load_definition(name)
    assert (d.family, d.resolution, d.dataset.name) == (name, 224, "cifar100")
    assert (d.budget.unit, d.budget.amount) == ("seconds", 300.0)
    assert (d.search.sobol_trials, d.search.trials) == (100, 200)
    assert d.limits.num_params == 30_000_000
    assert d.parameters == FAMILIES[name].ranges
    # The defaults are the published recipe but for these, which the files name.
    published = {"gradient_compression": "fp16", "evaluate_every_epochs": 1, "evaluations": 0}
    assert d.recipe == Recipe(**published)
    assert published.keys() <= d.recipe.model_fields_set
    assert d.recipe.crop_scale == (0.08, 1.0)


def test_quick_start_needs_no_download_nor_device() -> None:
    d = load_definition("digits")
    assert d.dataset.name == "digits"
    assert isinstance(d.limits.memory_gib, float)
    assert d.budget.unit == "seconds"
    assert d.budget.amount * d.search.trials <= 240


def test_pictures_is_for_a_users_own() -> None:
    d = load_definition("pictures", data="some/where")
    assert (d.dataset.name, d.dataset.root, d.resolution) == ("imagefolder", "some/where", 32)


# -- what may change while a study runs ---------------------------------------------------------

FREE = {
    "name",
    "dataset.root",
    "dataset.download",
    "dataset.placement",
    "search.trials",
    "search.finals",
    "search.finals_share",
    "search.warm_start",
    "storage.url",
    "track.tensorboard",
    "track.mlflow",
}


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = (
            leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
        found |= inner
    return found


def test_meaning_is_everything_but_the_free_keys() -> None:
    d = define(limits={"scaled": {"resolution": 64}})
    everything = leaves(d.model_dump(mode="json"))
    meaning = d.meaning()
    assert everything.keys() - meaning.keys() == FREE
    assert meaning == {key: everything[key] for key in meaning}
    assert json.loads(json.dumps(meaning, allow_nan=False)) == meaning


def test_free_keys_change_no_meaning() -> None:
    changed = define(
        name="other",
        dataset={"name": "digits", "root": "/elsewhere", "download": True},
        search={"trials": 7},
        storage={"url": "sqlite:///x.db"},
    )
    assert changed.meaning() == define().meaning()


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"family": "betanet3"}, "family"),
        ({"resolution": 64}, "resolution"),
        ({"parameters": {"k": [2, 3]}}, "parameters.k"),
        ({"dataset": {"name": "digits", "validation": 0.2}}, "dataset.validation"),
        ({"dataset": {"name": "digits", "split_seed": 1}}, "dataset.split_seed"),
        ({"budget": {"steps": 6}}, "budget.steps"),
        ({"recipe": {"learning_rate": 0.5}}, "recipe.learning_rate"),
        ({"limits": {"num_params": 5}}, "limits.num_params"),
        ({"search": {"seed": 1}}, "search.seed"),
        ({"search": {"sampler": "botorch", "acquisition": "UCB"}}, "search.acquisition"),
        ({"search": {"sobol_trials": 5}}, "search.sobol_trials"),
    ],
)
def test_every_other_key_changes_the_meaning(changed: dict[str, Any], key: str) -> None:
    old, new = define().meaning(), define(**changed).meaning()
    assert key in {k for k in old | new if old.get(k) != new.get(k)}


def test_stating_a_default_changes_nothing() -> None:
    stated = define(
        search={"seed": 0, "sobol_trials": 100},
        recipe={"learning_rate": 0.001},
        parameters={"k": [2, 10]},
    )
    assert stated == define()


def test_an_old_study_keeps_the_defaults_that_it_began_with() -> None:
    silent, telling = define().as_of(1).recipe, define(recipe={"evaluations": 4}).as_of(1).recipe
    assert (silent.evaluations, silent.evaluate_every_epochs) == (0, 1)
    assert (telling.evaluations, telling.evaluate_every_epochs) == (4, 1)
    assert silent.gradient_compression == "fp16"
    assert define().as_of(SCHEMA) == define()
    new, old = default_meaning(SCHEMA), default_meaning(1)
    changed = {key.removeprefix("recipe.") for key in new if new[key] != old[key]}
    assert changed == {
        "evaluations", "evaluate_every_epochs", "gradient_compression", "search.sampler",
    }  # fmt: skip


def test_a_begun_study_keeps_its_sampler() -> None:
    assert [define().as_of(schema).search.sampler for schema in (1, 2, 3)] == [
        "gp",
        "gp",
        "botorch",
    ]
    assert default_meaning(2)["search.sampler"] == "gp"
    assert define(search={"sampler": "tpe"}).as_of(2).search.sampler == "tpe"
    assert define(search={"trials": 30}).as_of(2).search.sampler == "gp"


# -- frozen -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "section", ["", "dataset", "recipe", "budget", "limits", "search", "storage"]
)
def test_frozen(section: str) -> None:
    d = define()
    model: BaseModel = getattr(d, section) if section else d
    field = next(iter(type(model).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model, field, getattr(model, field))


# -- small parts --------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["seconds", "steps", "epochs", "images", "macs"])
def test_budget_units(unit: str) -> None:
    budget = Budget.model_validate({unit: 12})
    assert (budget.unit, budget.amount) == (unit, 12.0)


def test_multiply_adds_pay_for_fewer_images_of_a_larger_network() -> None:
    budget = Budget(macs=3e9)
    assert budget.of_network(1_000_000) == Budget(images=3000)
    assert budget.of_network(7_000_000) == Budget(images=429)  # what is begun is finished
    assert budget.of_network(10**12) == Budget(images=1)
    assert Budget(seconds=4).of_network(7) == Budget(seconds=4)


def test_fractional_seconds() -> None:
    assert Budget(seconds=0.5).amount == 0.5


@pytest.mark.parametrize(
    ("optimizer", "slots"), [("adam", 2), ("adamw", 2), ("sgd", 1), ("rmsprop", 2), ("muon", 2)]
)
def test_optimizer_slots(optimizer: str, slots: int) -> None:
    assert Recipe.model_validate({"optimizer": optimizer}).optimizer_slots == slots


@pytest.mark.parametrize(
    "section", [Recipe(flip=False), Budget(epochs=3), DatasetConfig(name="digits")]
)
def test_sections_survive_json(section: BaseModel) -> None:
    text = json.dumps(section.model_dump(mode="json"))
    assert type(section).model_validate(json.loads(text)) == section


def test_memory_limit() -> None:
    assert memory_bytes("none", 5) is None
    assert memory_bytes("auto", 5) == 5
    assert memory_bytes(1.5, 5) == 3 * GIB // 2


def test_feasibility_of_a_study() -> None:
    d = define(
        limits={"num_params": 7, "scaled": {"resolution": 64, "num_params": 9}},
        recipe={"batch_size": 12, "optimizer": "sgd"},
    )
    rules = study_feasibility(d, 10, 1000, 2000)
    assert (rules.limits.resolution, rules.limits.num_params, rules.limits.memory_bytes) == (
        32,
        7,
        1000,
    )
    assert rules.scaled is not None
    assert (rules.scaled.resolution, rules.scaled.num_params, rules.scaled.memory_bytes) == (
        64,
        9,
        2000,
    )
    assert (rules.num_classes, rules.batch_size, rules.optimizer_slots) == (10, 12, 1)
    assert study_feasibility(define(), 10, None).scaled is None


@pytest.mark.parametrize(
    ("device", "resolution", "precision", "numbers", "value_bytes"),
    [
        ("cpu", 224, "auto", "float32", 4),
        ("cuda", 32, "auto", "tf32", 4),
        ("cuda", 64, "auto", "bf16", 2),
        ("cuda", 64, "float32", "float32", 4),
        ("cpu", 32, "bf16", "bf16", 2),
    ],
)
@pytest.mark.parametrize("formerly", [False, True])
def test_numbers_decide_how_much_memory_activations_take(
    device: str, resolution: int, precision: str, numbers: str, value_bytes: int, formerly: bool
) -> None:
    d = define(resolution=resolution, recipe={"precision": precision})
    assert d.recipe.numbers(device, resolution) == numbers
    rules = study_feasibility(d, 10, None, device=device, formerly=formerly)
    found = rules.check(PUBLISHED)
    assert found.step_bytes == step_bytes(found.complexities, 2, value_bytes)


def needed(d: StudyDefinition, kernels: NDArray[np.float64], batch: int, value_bytes: int) -> float:
    costs = replace(study_feasibility(d, 10, None), batch_size=batch).check(kernels).complexities
    return float(step_bytes(costs, 2, value_bytes)[0])


def test_of_a_searched_batch_the_one_that_needs_most_memory_must_fit() -> None:
    def bytes_of(low: int, high: int, *, formerly: bool = False) -> float:
        d = define(resolution=64, recipe={"batch_size": {"low": low, "high": high}})
        rules = study_feasibility(d, 10, None, device="cuda", formerly=formerly)
        return float(rules.check(PUBLISHED).step_bytes[0])

    d = define(resolution=64)  # where 32 images are trained in bf16, and 31 are not
    assert bytes_of(2, 20) == needed(d, PUBLISHED, 20, 4)
    assert bytes_of(2, 31) == needed(d, PUBLISHED, 31, 4)
    assert bytes_of(32, 100) == needed(d, PUBLISHED, 100, 2)
    assert bytes_of(2, 400) == needed(d, PUBLISHED, 400, 2)
    assert bytes_of(2, 50) == pytest.approx(needed(d, PUBLISHED, 31, 4), rel=1e-3)
    assert bytes_of(2, 50) > needed(d, PUBLISHED, 50, 2)
    assert bytes_of(2, 20, formerly=True) == needed(d, PUBLISHED, 20, 2)  # as of 100 images


def test_a_network_computes_in_the_numbers_of_its_own_side() -> None:
    d = define(family="efficientnet", resolution=32, parameters={}, recipe={"batch_size": 80})
    kernels = np.array([[1.1, 1.1, 1.2, 1.0], [1.1, 1.0, 1.7, 1.0]])  # of 38 and 54 pixels
    found = study_feasibility(d, 10, None, device="cuda").check(kernels)
    expected = [needed(d, kernels[:1], 80, 4), needed(d, kernels[1:], 80, 2)]
    assert found.step_bytes.tolist() == expected
    before = study_feasibility(d, 10, None, device="cuda", formerly=True).check(kernels)
    assert before.step_bytes[1] == needed(d, kernels[1:], 80, 4)


@pytest.mark.parametrize(
    ("devices", "schema", "precision", "value_bytes"),
    [
        (Devices("cuda", 1, GIB), SCHEMA, None, 2),
        (Devices("cuda", 1, GIB, has_bf16=False), SCHEMA, "float32", 4),
        (Devices("cuda", 1, GIB, has_bf16=False), 3, "float32", 2),
        (Devices("cpu", 1, GIB), SCHEMA, "bf16", 2),
        (Devices("cpu", 1, GIB), 3, "bf16", 4),
    ],
)
def test_memory_is_that_of_the_numbers_that_a_study_began_with(
    monkeypatch: pytest.MonkeyPatch,
    devices: Devices,
    schema: int,
    precision: str | None,
    value_bytes: int,
) -> None:
    monkeypatch.setattr("betanas.database.settings.multiplies_bf16", lambda: True)
    d, facts = define(resolution=64), DatasetFacts("digits", tuple("0123456789"), 9, 9, "x")
    settings = replace(new_settings(d, facts, devices), schema=schema)
    assert settings.precision == precision
    assert settings.trained(d.recipe, devices.kind).precision == (precision or "auto")
    monkeypatch.setattr("betanas.database.settings.multiplies_bf16", lambda: False)
    found = study_problem(d, settings).rules.check(PUBLISHED)
    assert found.step_bytes == step_bytes(found.complexities, 2, value_bytes)


@pytest.mark.parametrize(
    ("recorded", "asked", "device", "trained"),
    [
        ("bf16", "auto", "cpu", "bf16"),
        ("bf16", "float32", "cpu", "float32"),
        (None, "auto", "cpu", "float32"),  # a study from before there was a choice
        (None, "auto", "cuda", "auto"),
    ],
)
def test_a_study_keeps_the_numbers_that_it_began_with(
    recorded: str | None, asked: str, device: str, trained: str
) -> None:
    settings = Settings({}, ("a", "b"), "images", None, None, precision=recorded)
    assert Settings.from_json(settings.to_json()) == settings
    recipe = define(recipe={"precision": asked}).recipe
    assert settings.trained(recipe, device).precision == trained
    assert define().recipe.numbers("cpu", 32, cpu_has_bf16=True) == "bf16"


# -- what is tried first ------------------------------------------------------------------------


def test_members_are_tried_first_with_the_recipe_beside_them() -> None:
    rate = {"low": 1e-4, "high": 5e-4, "log": True}
    d = define(
        family="betamix",
        search={"start": ["plain", "airbench"]},
        recipe={"learning_rate": rate},
    )
    first, second = d.start
    assert (first["contraction"], second["contraction"]) == ("stride", "pool")
    assert first["recipe.learning_rate"] == 5e-4  # the default, 1e-3, moved into the range


@pytest.mark.parametrize(
    ("parameters", "start", "message"),
    [
        ({}, ["plane"], "must name members of betamix, which are plain, plain-wide, .* got plane"),
        ({"G0": [3, 4]}, ["plain"], r"plain lies outside .*, G0 must be in \[3, 4\], but got 2"),
        ({"early": ["mbconv"]}, ["plain"], "plain lies outside .* early must be one of mbconv"),
    ],
)
def test_a_start_that_cannot_be_is_told(
    parameters: dict[str, Any], start: list[str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        define(family="betamix", parameters=parameters, search={"start": start})
