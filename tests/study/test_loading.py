"""Reading study files: overrides, and one sentence for everything that can be wrong."""

from pathlib import Path

import pytest

from betanas.errors import InputError, StudyFileError
from betanas.parameters import Integer, Real
from betanas.study.agreement import refuse_unread_ranges
from betanas.study.definition import StudyDefinition
from betanas.study.feasibility import study_feasibility
from betanas.study.loading import built_in_studies, find_study, load_definition
from betanas.study.writing import study_file

TOP = 'family = "betanet2"\nresolution = 32\n'
DATASET = '[dataset]\nname = "digits"\n'
BUDGET = "[budget]\nsteps = 5\n"
GOOD = TOP + DATASET + BUDGET


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, *overrides: str, data: str | None = None) -> StudyDefinition:
    return load_definition(written(folder, GOOD), overrides, data)


BUILT_IN = [
    "betanet2", "betanet3", "caltech256", "cifar10", "demo", "digits", "efficientnet-grid",
    "nasbench201-cifar10", "nasbench201-cifar100", "nasbench201-free", "nasbench201-imagenet16",
    "nasnet-mobile", "pictures", "pictures-gpu", "proxyless", "singlepath",
    "tiny-imagenet-singlepath",
]  # fmt: skip


# -- finding ------------------------------------------------------------------------------------


def test_built_in_studies_load() -> None:
    names = [path.stem for path in built_in_studies()]
    assert names == BUILT_IN
    for name in names:
        definition = load_definition(name)
        assert definition.name == name
        assert find_study(name).is_file()


def test_name_is_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, "garden birds.toml")
    assert load_definition(path).name == load_definition(str(path)).name == "garden birds"


def test_a_path_needs_no_suffix_nor_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, GOOD, "mine")
    monkeypatch.chdir(tmp_path)
    assert load_definition("mine").name == "mine"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, GOOD)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_definition("~/mine.toml").name == "mine"


def test_unknown_studies(tmp_path: Path) -> None:
    known = ", ".join(BUILT_IN)
    with pytest.raises(StudyFileError, match=f"no study 'digitz': built-in are {known}, .*digits?"):
        load_definition("digitz")
    with pytest.raises(StudyFileError) as caught:
        load_definition("something-else")
    assert "did you mean" not in str(caught.value)
    for missing in (tmp_path / "none.toml", tmp_path, "none.toml", "no/such"):
        with pytest.raises(StudyFileError, match=f"no study file {missing}; give a path to a TOML"):
            load_definition(missing)


# -- overrides ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("search.trials=50", "search.trials", 50),
        ("search.trials = 50", "search.trials", 50),
        ("recipe.learning_rate=3e-3", "recipe.learning_rate", 3e-3),
        ("recipe.flip=false", "recipe.flip", False),
        ("recipe.crop_scale=[0.5, 1]", "recipe.crop_scale", (0.5, 1.0)),
        ("recipe.optimizer=sgd", "recipe.optimizer", "sgd"),
        ('recipe.optimizer="sgd"', "recipe.optimizer", "sgd"),
        ("recipe.schedule=one-cycle", "recipe.schedule", "one-cycle"),
        ("dataset.root=/data/my-pictures/v1.2", "dataset.root", "/data/my-pictures/v1.2"),
        ('dataset.root="my pictures"', "dataset.root", "my pictures"),
        ("limits.memory_gib=none", "limits.memory_gib", "none"),
        ("limits.memory_gib=2.5", "limits.memory_gib", 2.5),
        ("limits.num_params=1_000_000", "limits.num_params", 1_000_000),
        ("resolution=64", "resolution", 64),
        ("family=betanet3", "family", "betanet3"),
        ("limits.scaled={resolution = 64}", "limits.scaled.resolution", 64),
        ("limits.scaled.resolution=64", "limits.scaled.resolution", 64),
        (
            "storage.url=postgresql://me@host:5432/db",
            "storage.url",
            "postgresql://me@host:5432/db",
        ),
    ],
)
def test_override(tmp_path: Path, override: str, key: str, value: object) -> None:
    found: object = loaded(tmp_path, override)
    for step in key.split("."):
        found = getattr(found, step)
    assert found == value
    assert type(found) is type(value)


def test_override_of_parameters(tmp_path: Path) -> None:
    parameters = loaded(tmp_path, "parameters.k=[3, 4]", "parameters.B=0.5").parameters
    assert parameters["k"] == (3, 4)
    assert parameters["B"] == (0.5, 0.5)
    assert parameters["K"] == (2, 5)


def test_later_override_wins(tmp_path: Path) -> None:
    assert loaded(tmp_path, "search.seed=1", "search.seed=2").search.seed == 2


@pytest.mark.parametrize("unit", ["seconds", "steps", "epochs", "images", "macs"])
def test_budget_override_replaces_the_files_unit(tmp_path: Path, unit: str) -> None:
    budget = loaded(tmp_path, f"budget.{unit}=7").budget
    assert (budget.unit, budget.amount) == (unit, 7.0)


def test_last_budget_override_wins(tmp_path: Path) -> None:
    assert loaded(tmp_path, "budget.seconds=7", "budget.epochs=2").budget.unit == "epochs"


def test_data_is_an_image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = loaded(tmp_path, "dataset.validation=0.2", data="~/photos").dataset
    assert (dataset.name, dataset.root) == ("imagefolder", str(tmp_path / "photos"))
    assert dataset.validation == 0.2
    alone = load_definition(written(tmp_path, TOP + BUDGET), data="here").dataset
    assert (alone.name, alone.root) == ("imagefolder", "here")


def test_a_time_is_a_bare_word(tmp_path: Path) -> None:
    seconds = written(tmp_path, GOOD.replace("steps", "seconds"))
    assert load_definition(seconds, ["search.finals=15m"]).search.finals == "15m"
    with pytest.raises(StudyFileError, match=r"search\.trials must be .* but got '3m'"):
        load_definition(seconds, ["search.trials=3m"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("searchtrials", r"--set takes key=value, .*but got 'searchtrials'"),
        ("=3", r"--set takes key=value, .*but got '=3'"),
        ("search..trials=3", r"--set takes key=value"),
        ("search.trials=", r"--set search\.trials: the value must be TOML, .*but got ''"),
        ("dataset.root=two words", r"--set dataset\.root: the value must be TOML.*'two words'"),
        ("recipe.crop_scale=[1,", r"--set recipe\.crop_scale: the value must be TOML"),
        ("family.x=3", r"--set family\.x: family is a value, not a table"),
    ],
)
def test_wrong_override(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trails=3", "search.trails is not a key that studies have; did you mean trials?"),
        ("budget.secnds=3", "budget.secnds is not a key that studies have; did you mean seconds?"),
        ("budget=3", "budget must be a table, but got 3"),
        ("search.trials=0", "search.trials must be >= 1, but got 0"),
        ("search.trials=many", "search.trials must be a whole number, but got 'many'"),
        ("budget.seconds=-5", "budget.seconds must be > 0, but got -5"),
        ("parameters.k=[5, 2]", "parameters.k: low <= high must hold, but got (low=5, high=2)"),
    ],
)
def test_override_is_checked_like_the_file(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        loaded(tmp_path, override)
    assert str(caught.value) == f"{tmp_path}/mine.toml: {message}"


def test_data_beside_a_dataset_that_is_no_table(tmp_path: Path) -> None:
    path = written(tmp_path, 'dataset = "digits"\n' + TOP + BUDGET)
    with pytest.raises(InputError, match="--data: dataset is a value, not a table"):
        load_definition(path, data="here")


# -- everything that can be wrong with a file ----------------------------------------------------

WRONG = [
    # unknown keys
    ("depth = 3\n" + GOOD, "depth is not a key that studies have; known here: family, resolution"),
    (
        GOOD + "[recipe]\nlearning_rat = 1.0\n",
        "recipe.learning_rat is not a key that studies have; did you mean learning_rate?",
    ),
    (GOOD + "[recipes]\n", "recipes is not a key that studies have; did you mean recipe?"),
    (
        GOOD + "[limits.scaled]\nresolution = 64\nnum_param = 1\n",
        "limits.scaled.num_param is not a key that studies have; did you mean num_params?",
    ),
    (
        'name = "mine"\n' + GOOD,
        "name is not a key that studies have; a study is named by its file, here mine",
    ),
    (
        GOOD + "[parameters]\nWLa = 0\n",
        "parameters.WLa is not a parameter of betanet2, which has k, K, Da, Db, Wa, Wb, G0",
    ),
    # what is missing
    (TOP + DATASET, "budget is required, but is not given"),
    (TOP + BUDGET, "dataset is required, but is not given"),
    ("resolution = 32\n" + DATASET + BUDGET, "family is required, but is not given"),
    (TOP + "[dataset]\n" + BUDGET, "dataset.name is required, but is not given"),
    (
        GOOD + "[limits.scaled]\nnum_params = 1\n",
        "limits.scaled.resolution is required, but is not given",
    ),
    # objectives
    (
        'objectives = ["accuracy", "speed"]\n' + GOOD,
        "objectives must be among accuracy, latency, num_params, macs, activation_bytes, but got",
    ),
    ('objectives = "latency"\n' + GOOD, "objectives must be a list of accuracy, latency, num_par"),
    (
        'objectives = ["latency", "accuracy"]\n' + GOOD,
        "objectives must name accuracy first and each objective once, but got latency, accuracy",
    ),
    ("objectives = []\n" + GOOD, "objectives must name accuracy first and each objective once"),
    (
        'objectives = ["accuracy", "macs", "macs"]\n' + GOOD,
        "objectives must name accuracy first and each objective once, but got accuracy, macs, macs",
    ),
    (
        'objectives = ["accuracy", "macs"]\n' + GOOD + '[search]\npruner = "median"\n',
        "search.pruner must be none with objectives = accuracy, macs, but got median: Optuna pr",
    ),
    (
        'objectives = ["accuracy", "macs"]\n' + GOOD + '[search]\nsampler = "cmaes"\n',
        "search.sampler = cmaes searches one objective, but got objectives = accuracy, macs; take",
    ),
    (
        'objectives = ["accuracy", "macs"]\n' + GOOD + "[objective]\nlatency_weight = 0.1\n",
        "objective.latency_weight puts the latency into one value, but got objectives = accuracy,",
    ),
    (
        GOOD + "[objective]\nlatency_weight = -1.0\n",
        "objective.latency_weight must be >= 0, but got",
    ),
    (GOOD + "[latency]\nthreads = 0\n", "latency.threads must be > 0, but got 0"),
    # a limit that no operator table supports
    (GOOD + "[limits]\nlatency_ms = 0.0\n", "limits.latency_ms must be > 0, but got 0"),
    (
        GOOD + '[limits]\nlatency_ms = 2.0\n[objective]\nname = "naswot"\n',
        "limits.latency_ms = 2.0 needs objective.name = train, whose networks are timed where they",
    ),
    (
        GOOD.replace("betanet2", "nasbench201") + "[limits]\nlatency_ms = 2.0\n",
        "limits.latency_ms = 2.0 needs networks of layers, whose operators can be timed, but fami",
    ),
    # ranges
    (
        GOOD + "[parameters]\nk = [5, 2]\n",
        "parameters.k: low <= high must hold, but got (low=5, high=2)",
    ),
    (
        GOOD + "[parameters]\nk = [0.5, 2]\n",
        "parameters.k must stay inside [1, 12], but got [0.5, 2]",
    ),
    (GOOD + "[parameters]\nB = 1.5\n", "parameters.B must stay inside [0, 1], but got [1.5, 1.5]"),
    (GOOD + "[parameters]\nk = [1]\n", "parameters.k must be [low, high], but got [1]"),
    (GOOD + "[parameters]\nk = [1, 2, 3]\n", "parameters.k must be [low, high], but got [1, 2, 3]"),
    (GOOD + "[parameters]\nk = []\n", "parameters.k must be [low, high], but got []"),
    (GOOD + '[parameters]\nk = "low"\n', "parameters.k must be [low, high], but got 'low'"),
    (GOOD + "[parameters]\nk = [nan, 3]\n", "parameters.k.0 must be a finite number, but got nan"),
    (GOOD + "[parameters]\nk = [2, inf]\n", "parameters.k.1 must be a finite number, but got inf"),
    (GOOD + "[parameters]\nk = [2, true]\n", "parameters.k.1 must be a number, but got true"),
    (GOOD + "[parameters]\nk = true\n", "parameters.k.0 must be a number, but got true"),
    (
        GOOD + "[recipe]\ncrop_scale = [1.0, 0.5]\n",
        "recipe.crop_scale: 0 < low <= high must hold, but got (low=1, high=0.5)",
    ),
    (
        GOOD + "[recipe]\ncrop_scale = [0.0, 0.5]\n",
        "recipe.crop_scale: 0 < low <= high must hold, but got (low=0, high=0.5)",
    ),
    (GOOD + "[recipe]\nbetas = [0.9, 1.5]\n", "recipe.betas.1 must be <= 1, but got 1.5"),
    (
        GOOD + "[recipe]\nstochastic_depth_power = 2\n",
        "recipe.stochastic_depth_power shapes recipe.stochastic_depth, which is not given; give",
    ),
    (
        (GOOD + "[recipe]\nstochastic_depth = {low = 0.0, high = 0.3}\n").replace(
            '"betanet2"', '"nasbench201"'
        ),
        "recipe.stochastic_depth drops residual branches of layers, but family nasbench201 has",
    ),
    # budgets
    (
        TOP + DATASET + "[budget]\nsteps = 5\nseconds = 3\n",
        "budget: exactly one of seconds, steps, epochs, images, macs must be given, but got seco",
    ),
    (
        TOP + DATASET + "[budget]\n",
        "budget: exactly one of seconds, steps, epochs, images, macs must be given, but got none",
    ),
    (TOP + DATASET + "[budget]\nseconds = -5\n", "budget.seconds must be > 0, but got -5"),
    (TOP + DATASET + "[budget]\nseconds = inf\n", "budget.seconds must be a finite number"),
    (TOP + DATASET + "[budget]\nsteps = 0\n", "budget.steps must be > 0, but got 0"),
    (TOP + DATASET + "[budget]\nsteps = 1.5\n", "budget.steps must be a whole number, but got 1.5"),
    # wrong types
    (GOOD.replace("32", '"32"'), "resolution must be a whole number, but got '32'"),
    (GOOD.replace("32", "32.0"), "resolution must be a whole number, but got 32.0"),
    (
        GOOD.replace("steps = 5", "steps = true"),
        "budget.steps must be a whole number, but got true",
    ),
    (GOOD.replace("steps = 5", 'seconds = "5"'), "budget.seconds must be a number, but got '5'"),
    (GOOD + '[recipe]\nflip = "yes"\n', "recipe.flip must be true or false, but got 'yes'"),
    (GOOD + "[recipe]\nflip = 1\n", "recipe.flip must be true or false, but got 1"),
    (
        GOOD + '[recipe]\nlearning_rate = "fast"\n',
        "recipe.learning_rate must be a number, but got 'fast'",
    ),
    (GOOD + "[storage]\nurl = 5\n", "storage.url must be a string, but got 5"),
    (
        'dataset = "digits"\n' + TOP + BUDGET,
        "dataset must be a table, but got 'digits'",
    ),
    ("parameters = 3\n" + GOOD, "parameters must be a table, but got 3"),
    (GOOD + "[limits]\nscaled = 64\n", "limits.scaled must be a table, but got 64"),
    # values
    (
        GOOD.replace("betanet2", "betanet9"),
        (
            "family must be one of betanet2, betanet3, betamix, mbconv, nasbench201, efficientnet, "
            "nasnet, but got"
        ),
    ),
    (GOOD.replace("digits", "mnist"), "dataset.name must be 'digits', 'cifar10', 'cifar100', "),
    (GOOD.replace("32", "8"), "resolution must be >= 16, but got 8"),
    (GOOD.replace("32", "5000"), "resolution must be <= 4096, but got 5000"),
    (GOOD + "[recipe]\nbatch_size = 1\n", "recipe.batch_size must be >= 2, but got 1"),
    (GOOD + "[recipe]\nlearning_rate = 0\n", "recipe.learning_rate must be > 0, but got 0"),
    (GOOD + "[recipe]\nlearning_rate = inf\n", "recipe.learning_rate must be a finite number"),
    (GOOD + "[recipe]\nlabel_smoothing = 1\n", "recipe.label_smoothing must be < 1, but got 1"),
    (
        GOOD + '[recipe]\noptimizer = "lion"\n',
        "recipe.optimizer must be 'adam', 'adamw', 'sgd', 'rmsprop' or 'muon', but got 'lion'",
    ),
    (GOOD + "[limits]\nnum_params = 0\n", "limits.num_params must be > 0, but got 0"),
    (GOOD + "[limits]\nmemory_gib = -1\n", "limits.memory_gib must be > 0, but got -1"),
    (GOOD + "[limits]\nmemory_gib = inf\n", "limits.memory_gib must be a finite number"),
    (GOOD + '[limits]\nmemory_gib = "all"\n', "limits.memory_gib must be "),
    (GOOD + "[search]\nmin_feasible = 1\n", "search.min_feasible must be >= 2, but got 1"),
    (
        GOOD.replace('"digits"', '"digits"\nvalidation = 1.5'),
        "dataset.validation must be a fraction below 1 or a whole number of images, but got 1.5",
    ),
    (
        GOOD.replace('"digits"', '"digits"\nvalidation = 0'),
        "dataset.validation must be > 0, but got 0",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        load_definition(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/mine.toml: {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    text = GOOD.replace("32", "8") + "[recipe]\nbatch_size = 0\n"
    with pytest.raises(StudyFileError) as caught:
        load_definition(written(tmp_path, text))
    assert str(caught.value).endswith(
        "resolution must be >= 16, but got 8 "
        "(and 1 more: recipe.batch_size must be >= 2, but got 0)"
    )


def test_misspelt_key_that_is_required(tmp_path: Path) -> None:
    with pytest.raises(
        StudyFileError, match=r"resolutoin is not a key .*did you mean resolution\?"
    ):
        load_definition(written(tmp_path, GOOD.replace("resolution", "resolutoin")))


def test_built_in_studies_are_shown_where_people_know_them() -> None:
    with pytest.raises(StudyFileError, match=r"^studies/digits\.toml: search\.trials must be >= 1"):
        load_definition("digits", ["search.trials=0"])


@pytest.mark.parametrize("content", [b"resolution = = 3", b"\xff\xfe\x00", b"a = 1\na = 2\n"])
def test_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(StudyFileError, match=r"mine\.toml is not valid TOML: "):
        load_definition(path)


# -- recipe values that are searched --------------------------------------------------------------


def test_a_recipe_value_may_be_searched(tmp_path: Path) -> None:
    found = loaded(tmp_path, "recipe.learning_rate={low = 1e-4, high = 1e-2, log = true}")
    assert list(found.ranges)[-1] == "recipe.learning_rate"
    assert found.ranges["recipe.learning_rate"] == (1e-4, 1e-2)
    assert found.recipe.learning_rate == 1e-3  # the default stands in where one is needed
    assert found.recipe_of({"recipe.learning_rate": 0.004}).learning_rate == 0.004
    assert found.meaning()["recipe_ranges.learning_rate.log"] is True


def test_a_batch_size_that_is_searched_is_a_whole_number_and_the_largest_must_fit(
    tmp_path: Path,
) -> None:
    found = loaded(tmp_path, "recipe.batch_size={low = 32, high = 256, log = true}")
    parameter = found.searched[-1]
    assert isinstance(parameter, Integer)
    assert (parameter.name, parameter.range, parameter.log) == (
        "recipe.batch_size",
        (32, 256),
        True,
    )
    batch = found.recipe_of({"recipe.batch_size": 64}).batch_size
    assert (batch, type(batch)) == (64, int)
    assert study_feasibility(found, 10, None).batch_size == 256
    assert study_feasibility(loaded(tmp_path), 10, None).batch_size == 100
    again = tmp_path / "again.toml"
    again.write_text(study_file(found, "as it is"))
    assert load_definition(again).searched[-1] == parameter


def test_a_parameter_may_have_a_prior_in_the_familys_range_or_its_own(tmp_path: Path) -> None:
    prior = "{mean = 3, std = 0.5}"
    plain, found = (
        loaded(tmp_path),
        loaded(
            tmp_path, f"parameters.k={{low = 2, high = 5, prior = {prior}}}",
            f"parameters.G0.prior={prior}", f"recipe.mixup={{low = 0, high = 4, prior = {prior}}}",
        ),
    )  # fmt: skip
    assert found.ranges == plain.ranges | {"k": (2, 5), "recipe.mixup": (0, 4)}
    priors = {p.name: p.prior for p in found.searched if isinstance(p, Real) and p.prior}
    assert priors == dict.fromkeys(("k", "G0", "recipe.mixup"), (3, 0.5))
    told = {key: value for key, value in found.meaning().items() if key.startswith("priors")}
    assert told == {"priors.k.mean": 3, "priors.k.std": 0.5, "priors.G0.mean": 3} | {
        "priors.G0.std": 0.5
    }
    assert not any(key.startswith("priors") for key in plain.meaning())


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("parameters.k={low = 2}", "parameters.k must be [low, high], or a table of low, high and"),
        ("parameters.k={low = 2, high = 5, log = true}", "parameters.k must be [low, high], or a"),
        ("parameters.k.prior={mean = 40, std = 1}", "parameters.k.prior.mean must be in [2, 10],"),
        ("parameters.k.prior={mean = 4, std = 0}", "parameters.k.prior.std must be > 0, but got 0"),
        ("parameters.k.prior={mean = 4}", "parameters.k.prior.std is required, but is not given"),
        (
            "parameters.k.prior={mean = 4, std = 1, sd = 1}",
            "parameters.k.prior.sd is not a key that studies",
        ),
        ("parameters.k.prior=3", "parameters.k.prior must be a table, but got 3"),
        ("parameters.none.prior={mean = 4, std = 1}", "parameters.none has a prior, but is no num"),
        (
            "recipe.mixup={low = 0, high = 4, prior = {mean = 5, std = 1}}",
            "recipe.mixup: prior.mean must be in [0, 4], but got 5",
        ),
    ],
)
def test_a_wrong_prior_is_told(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        loaded(tmp_path, override)
    assert told in str(caught.value)


def test_rates_of_stochastic_depth_may_be_searched(tmp_path: Path) -> None:
    last = "recipe.stochastic_depth={low = 0.0, high = 0.4}"
    power = "recipe.stochastic_depth_power={low = 0.0, high = 2.0}"
    found = loaded(tmp_path, last, power)
    names = ["recipe.stochastic_depth", "recipe.stochastic_depth_power"]
    assert list(found.ranges)[-2:] == names
    assert not set(names) & set(loaded(tmp_path).ranges)  # only where a file asks for it
    recipe = found.recipe_of({names[0]: 0.3, names[1]: 0.5})
    assert (recipe.stochastic_depth, recipe.stochastic_depth_power) == (0.3, 0.5)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("recipe.evaluations={low = 2, high = 9}", "recipe.evaluations cannot be searched"),
        (
            "recipe.batch_size={low = 1, high = 9}",
            "recipe.batch_size: .*greater than or equal to 2",
        ),
        ("recipe.batch_size={low = 2.5, high = 9}", "recipe.batch_size: .*valid integer"),
        ("recipe.momentum={low = 0.5, high = 1.5}", "recipe.momentum: .*less than or equal to 1"),
        ("recipe.mixup={low = 1, high = 0.5}", r"low < high must hold, but got \(low=1, high=0.5"),
        ("recipe.mixup={low = 0, high = 1, log = true}", "low must be > 0 on a log scale"),
        ("recipe.mixup={low = 0}", "recipe.mixup.high is required"),
        ("recipe.mixup={low = 0, hihg = 1, high = 1}", "recipe.mixup.hihg .*did you mean high"),
        ("recipe.learning_rat={low = 1, high = 2}", "recipe.learning_rat cannot be searched"),
    ],
)
def test_ranges_that_mean_nothing(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(StudyFileError, match=told):
        loaded(tmp_path, override)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "recipe.momentum={low = 0.5, high = 0.9}",
            "with recipe.optimizer = adam, .* it no range, or take one of sgd, rmsprop, muon",
        ),
        (
            "recipe.decay_factor={low = 0.5, high = 0.9}",
            "recipe.decay_factor cannot be searched with recipe.schedule = plateau, which does not",
        ),
        (
            "recipe.auxiliary_weight={low = 0.1, high = 0.9}",
            "auxiliary head, which no network of family betanet2 has; .*, or take nasnet",
        ),
    ],
)
def test_ranges_that_nothing_reads_begin_no_study(tmp_path: Path, override: str, told: str) -> None:
    """A file that has them is read: a study may have begun with them before they were refused."""
    with pytest.raises(InputError, match=told):
        refuse_unread_ranges(loaded(tmp_path, override))


def test_a_pruner_needs_evaluations_to_compare(tmp_path: Path) -> None:
    assert loaded(tmp_path, "search.pruner=median").recipe.evaluations >= 2
    with pytest.raises(StudyFileError, match=r"recipe.evaluations must be >= 2, but got 1"):
        loaded(tmp_path, "search.pruner=median", "recipe.evaluations=1")
