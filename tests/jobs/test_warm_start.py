"""A study that begins from what another one has measured."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from command import TINY, ask, run
from faults import DEVICES
from generated import generated_records, write_database

from betanas.data import describe_dataset
from betanas.database.settings import Settings, new_settings
from betanas.database.stored import StoredStudy
from betanas.errors import InputError
from betanas.jobs.optimize import prepare
from betanas.jobs.warm_start import check_source, with_opening, with_source
from betanas.search.plan import StudyProblem, study_problem
from betanas.search.sampler import KernelSampler
from betanas.search.warm_start import WarmStart
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import Phase, TrialRecord

SOBOL = 24
OLD = TINY.replace("num_params = 12_000", "num_params = 40_000").replace(
    "sobol_trials = 6", "sobol_trials = 300"
)
NEW = (
    TINY.replace("resolution = 16", "resolution = 24")
    .replace("num_params = 12_000", "num_params = 30_000")
    .replace("sobol_trials = 6", f"sobol_trials = {SOBOL}")
    .replace("steps = 4", "steps = 6")
    .replace("E0 = [2, 3]", "E0 = [2, 4]")
)
RATE = "batch_size = 32\nlearning_rate = {low = 1e-4, high = 1e-2, log = true}"
URL = "sqlite:///storage/new.db"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study file, ``new``, and another study, ``old``, that has trials."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "new.toml").write_text(NEW)
    write_old(folder)
    return folder


@pytest.fixture
def here(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path


def write_old(
    folder: Path,
    text: str = OLD,
    change: Callable[[TrialRecord], TrialRecord] = replace,
    database: str = "old",
    number: int = 60,
) -> None:
    """A study of generated trials."""
    (folder / "old.toml").write_text(text)
    old = load_definition(folder / "old.toml")
    (folder / "storage").mkdir(exist_ok=True)
    records = [change(r) for r in generated_records(old, settings_of(old), number)]
    file = folder / "storage" / f"{database}.db"
    file.unlink(missing_ok=True)
    write_database(file, old, settings_of(old), records).disconnect()


def settings_of(definition: StudyDefinition) -> Settings:
    return new_settings(definition, describe_dataset(definition.dataset), DEVICES)


def told(source: str = "old.toml", *overrides: str) -> tuple[StudyDefinition, Settings]:
    """The study ``new`` as it would begin from a source."""
    definition = load_definition("new.toml", [f"search.warm_start={source}", *overrides])
    settings = with_source(definition, settings_of(definition), URL)
    return definition, with_opening(definition, settings)


def cold(definition: StudyDefinition) -> StudyProblem:
    return study_problem(definition, settings_of(definition))


def test_half_of_the_first_phase_are_the_sources_best_feasible_kernels(here: Path) -> None:
    definition, settings = told()
    problem, alone = study_problem(definition, settings), cold(definition)
    opening = problem.opening_points(0, problem.opening_length)
    feasible = problem.rules.assess(opening).feasible
    given = problem.given
    assert given == len(problem.start) >= 2
    assert feasible[:given].all(), "by the new study's limits"
    assert given == sum(feasible) // 2, "half of what is trained"
    in_cold = alone.rules.assess(alone.sobol_points(0, alone.sobol_length)).feasible.sum()
    assert feasible.sum() < 0.6 * in_cold
    assert len({problem.rules.identity(kernel) for kernel in opening[:given]}) == given
    # They are among the best that the new study may train, and the very best is the first.
    records = StoredStudy.load("sqlite:///storage/old.db", "old").records()
    kernels = alone.space.vectors([r.parameters for r in records if r.state == "complete"])
    values = [r.value for r in records if r.state == "complete"]
    allowed = alone.rules.assess(kernels).feasible
    ranked = [k.tolist() for _, k in sorted(zip(values, kernels, strict=True), key=lambda x: -x[0])]
    ranked = [k for k in ranked if k in kernels[allowed].tolist()]
    assert opening[0].tolist() == ranked[0]
    assert all(kernel.tolist() in ranked[: 2 * given] for kernel in opening[:given])
    sampler = KernelSampler(problem)
    phases = [sampler.phase(i) for i in range(problem.opening_length + 1)]
    assert phases[:given] == [Phase.START] * given
    assert set(phases[given:-1]) == {Phase.SOBOL}


def test_what_was_told_outlives_the_source(here: Path) -> None:
    _, settings = told()
    for file in (*here.glob("storage/old*"), here / "old.toml"):
        file.unlink()
    begun = StoredStudy.begin(URL, "new", settings)
    begun.disconnect()
    definition = load_definition("new.toml", ["search.warm_start=old.toml"])
    ready = prepare(definition, URL, DEVICES)
    assert ready.stored is not None
    assert ready.stored.settings == settings
    assert WarmStart.from_json(settings.warm_start).to_json() == settings.warm_start
    assert prepare(load_definition("new.toml"), URL, DEVICES).stored.settings == settings


def test_a_resumed_search_proposes_the_same_and_heeds_the_source(here: Path) -> None:
    definition, settings = told()
    problem = study_problem(definition, settings)
    study = StoredStudy.begin(URL, "new", settings).study
    opening = problem.opening_points(0, problem.opening_length)
    for kernel, feasible in zip(opening, problem.rules.assess(opening).feasible, strict=True):
        named = problem.space.kernel(kernel)
        study.add_trial(
            optuna.trial.create_trial(
                params=named,
                distributions=problem.space.distributions,
                state=optuna.trial.TrialState.COMPLETE
                if feasible
                else optuna.trial.TrialState.PRUNED,
                value=0.4 - 0.04 * (named["B"] - 0.3) ** 2 if feasible else None,
            )
        )
    number = study._storage.create_new_trial(study._study_id)

    def proposed(which: StudyProblem) -> dict[str, float]:
        again = StoredStudy.load(URL, "new")
        trial = again.study._storage.get_trial(number)
        kernel, trouble = KernelSampler(which).propose(again.study, trial)
        assert not trouble
        return kernel

    stored = StoredStudy.load(URL, "new")
    first = proposed(problem)
    assert proposed(study_problem(definition, stored.settings)) == first


def test_a_source_in_the_same_database_or_by_its_name(here: Path) -> None:
    _, by_file = told()
    write_old(here, database="new")
    _, in_ours = told("old")
    assert in_ours.warm_start == by_file.warm_start
    assert in_ours.warm_start["study"] == "old"


def test_a_built_in_study_ships_its_trials(here: Path) -> None:
    definition = load_definition("digits", ["search.warm_start=demo", "family=betamix"])
    settings = with_source(definition, settings_of(definition), URL)
    source = study_problem(definition, settings).source
    assert len(source.values) > 20
    assert len(study_problem(definition, with_opening(definition, settings)).start) > 0


def test_a_recipe_value_that_may_be_0_is_searched_on_a_log_scale(here: Path) -> None:
    """``weight_decay`` may be 0, but not where its logarithm is searched."""
    decay = "batch_size = 32\nweight_decay = {low = 1e-5, high = 1e-2, log = true}"
    (here / "new.toml").write_text(NEW.replace("batch_size = 32", decay))
    definition, settings = told()
    assert definition.beside["recipe.weight_decay"] > 0
    assert len(settings.warm_start["values"]) > 0


def test_a_parameter_that_the_source_has_not_searched_has_the_files_value(here: Path) -> None:
    (here / "new.toml").write_text(NEW.replace("batch_size = 32", RATE))
    definition, settings = told()
    source = study_problem(definition, settings).source
    place = definition.searched[-1].name
    assert place == "recipe.learning_rate"
    assert set(source.kernels[:, -1]) == {definition.recipe.learning_rate}


def all_failed(record: TrialRecord) -> TrialRecord:
    return replace(record, state="fail", value=None, reason="diverged")


def test_errors_say_what_to_do(here: Path) -> None:
    with pytest.raises(
        InputError, match=r"search\.warm_start = nobody: .* has no study nobody, and"
    ):
        told("nobody")
    with pytest.raises(
        InputError, match=r"search\.warm_start = new\.toml: that is the study itself"
    ):
        told("new.toml")
    with pytest.raises(
        InputError, match=r"it has not begun, neither in .*; begin it with: betanas"
    ):
        told("digits")
    write_old(here, OLD.replace("betanet2", "betanet3"), number=0)
    with pytest.raises(InputError, match="that study searches betanet3, but study new searches"):
        told()
    write_old(here, change=all_failed, number=4)
    with pytest.raises(InputError, match=r"0 of its trials are complete, .* let it go on first"):
        told()
    with pytest.raises(InputError, match="guesses values of one objective"):
        told("old.toml", 'objectives=["accuracy", "macs"]')


def test_a_begun_study_keeps_its_source(here: Path) -> None:
    definition, settings = told()
    check_source(definition, settings)
    check_source(load_definition("new.toml"), settings)
    other = load_definition("new.toml", ["search.warm_start=demo"])
    with pytest.raises(
        InputError, match=r"= demo: study new has begun from old, which stays; leave"
    ):
        check_source(other, settings)
    with pytest.raises(InputError, match="study new has begun without another study, which stays"):
        check_source(other, settings_of(other))


@pytest.mark.slow
def test_the_command_begins_from_a_study_and_keeps_to_it(here: Path) -> None:
    new = ("optimize", "--study", "new.toml", "--device", "cpu", "--nproc-per-node", "1")
    _, err = run(here, *new, "--warm-start", "old.toml", "--trials", "1")
    assert "of the best kernels of old and" in err
    stored = StoredStudy.load(URL, "new")
    assert [(r.phase, r.state) for r in stored.records()] == [(Phase.START, "complete")]
    assert stored.settings.warm_start["study"] == "old"
    out, err = ask(here, *new, "--warm-start", "demo", "--trials", "1", code=2)
    assert not out
    told = err.strip().splitlines()[-1]
    assert told.startswith("error: search.warm_start = demo: study new has begun from old, which")
