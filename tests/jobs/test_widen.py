"""A study with wider ranges that begins with another one's trials."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command import TINY, ask, ask_json, run
from faults import DEVICES, AcknowledgedLog, fail_at, start_process
from generated import generated_records, write_database
from optuna.trial import TrialState
from sqlalchemy.engine.default import DefaultDialect

from betanas.data import describe_dataset
from betanas.database.copying import COPIED_FROM
from betanas.database.replicates import UNFINISHED, Replicate
from betanas.database.settings import new_settings
from betanas.database.stored import StoredStudy
from betanas.errors import InputError, StorageError
from betanas.jobs.confirm import is_done
from betanas.jobs.optimize import SearchOptions, optimize
from betanas.jobs.widen import _file, begin_wider
from betanas.parameters import Real
from betanas.search.plan import study_problem
from betanas.search.sampler import FALLBACK
from betanas.study.definition import StudyDefinition
from betanas.study.loading import find_study, load_definition
from betanas.study.writing import study_file
from betanas.trial import REPEATS, SEED_INDEX, Phase, TrialRecord

COMPLETE = 20


def write_begun(folder: Path, *, presses: bool = True, text: str = TINY) -> StudyDefinition:
    """A study of generated trials in every state, the best of which have the largest K."""
    (folder / "tiny.toml").write_text(text)
    definition = load_definition(folder / "tiny.toml")
    settings = new_settings(definition, describe_dataset(definition.dataset), DEVICES)
    records: list[TrialRecord] = []
    made = generated_records(definition, settings, 80)
    while sum(r.state == "complete" for r in records) < COMPLETE:
        record = replace(made[len(records)], value=made[len(records)].value and 0.5)
        if record.value and presses:
            best = {"K": 3.0, "recipe.learning_rate": 1e-2}
            best = {n: v for n, v in best.items() if n in record.parameters}
            record = replace(record, value=0.6, parameters={**record.parameters, **best})
        records.append(record)
    example = next(r for r in records if r.value)
    n = len(records)
    records += [
        replace(example, number=n, state="fail", value=None, reason="diverged"),
        replace(example, number=n + 1, state="running", value=None),
        replace(
            example,
            number=n + 2,
            phase=Phase.CONFIRM,
            audit={REPEATS: example.number, SEED_INDEX: 0},
        ),
    ]
    (folder / "storage").mkdir()
    write_database(folder / "storage" / "tiny.db", definition, settings, records)
    return definition


def begin(folder: Path) -> tuple[StudyDefinition, StoredStudy]:
    """Begins the wider study in a folder; the current one must be that."""
    study = folder / "tiny.toml"
    file = begin_wider(study, load_definition(study), None)
    wide = load_definition(file)
    return wide, StoredStudy.load(f"sqlite:///storage/{wide.name}.db", wide.name)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study file and its database."""
    folder = tmp_path_factory.mktemp("begun")
    write_begun(folder)
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    return tmp_path


@pytest.fixture
def here(nowhere: Path, begun: Path) -> Path:
    """A copy of the study's folder, the current one."""
    shutil.copytree(begun, nowhere, dirs_exist_ok=True)
    return nowhere


def test_the_wider_study_has_all_trials_under_their_numbers(here: Path) -> None:
    narrow = load_definition("tiny.toml")
    old = StoredStudy.load(f"sqlite:///{here}/storage/tiny.db", "tiny")
    wide, stored = begin(here)
    assert wide.name == "tiny-wide"
    assert wide.ranges == narrow.ranges | {"K": (1, 4)}
    assert wide.search.trials == COMPLETE + narrow.search.trials
    assert "K presses against 3" in (here / "tiny-wide.toml").read_text()
    new, before = stored.records(), old.records()
    assert len(new) == len(before) > COMPLETE
    for ours, theirs in zip(new, before, strict=True):
        assert ours.audit[COPIED_FROM] == "tiny"
        if theirs.state == "running":
            assert (ours.state, ours.reason) == ("pruned", UNFINISHED)
        else:
            assert replace(ours, audit={}) == replace(theirs, audit={})
            assert theirs.audit.items() <= ours.audit.items()
    assert new[-1].is_replicate
    times = [[t.datetime_start for t in s.study.get_trials()] for s in (old, stored)]
    assert times[0] == times[1]


def test_the_search_sees_one_space_and_goes_on_behind_them(here: Path) -> None:
    wide, stored = begin(here)
    problem = study_problem(wide, stored.settings)
    for trial in stored.study.get_trials():
        assert trial.distributions == problem.space.distributions
    assert problem.space.holds(stored.records()[0].parameters)
    assert stored.settings.meaning == wide.meaning()
    number = len(stored.records())
    assert stored.claim().number == number
    assert number > problem.opening_length


def test_doing_it_again_changes_nothing(here: Path) -> None:
    _, stored = begin(here)
    text, before = (here / "tiny-wide.toml").read_text(), stored.records()
    old = StoredStudy.load(f"sqlite:///{here}/storage/tiny.db", "tiny")
    old.claim()  # it goes on meanwhile
    wide, again = begin(here)
    assert again.records() == before
    assert (here / "tiny-wide.toml").read_text() == text
    # All of them lie at K = 3, in the middle now: there is nothing to widen further.
    with pytest.raises(InputError, match="press against no end of a range"):
        begin_wider("tiny-wide.toml", wide, None)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("a/mine.toml", "a/mine-wide.toml"),
        ("a/mine-wide.toml", "a/mine-wide-2.toml"),
        ("mine-wide-9.toml", "mine-wide-10.toml"),
        (find_study("demo"), "demo-wide.toml"),  # a built-in study's is written here
    ],
)
def test_the_file_is_beside_the_studys_own(path: str | Path, file: str) -> None:
    assert _file(Path(path), Path(path).stem) == Path(file)


@pytest.mark.slow
def test_killed_at_any_commit_it_has_all_trials_or_has_not_begun(here: Path) -> None:
    commits, struck = 0, True
    while struck:
        commits += 1
        for file in (*here.glob("storage/tiny-wide.db*"), *here.glob("tiny-wide.toml")):
            file.unlink()
        kill = fail_at(DefaultDialect, "do_commit", commits, after=False)
        process = start_process(lambda: begin(here), prepare=kill)
        process.join(120)
        struck = process.exitcode == -9
        assert struck or process.exitcode == 0
        _, stored = begin(here)
        assert len(stored.records()) > COMPLETE
    assert commits > 3


def test_a_front_presses_against_no_end(nowhere: Path) -> None:
    text = TINY.replace("\n[", '\nobjectives = ["accuracy", "macs"]\n[', 1)
    (nowhere / "tiny.toml").write_text(text)
    with pytest.raises(InputError, match=r"--widen: study tiny has several objectives"):
        begin_wider("tiny.toml", load_definition("tiny.toml"), None)
    assert not (nowhere / "tiny-wide.toml").exists()


def test_a_repetition_that_was_under_way_is_begun_again(here: Path) -> None:
    wide, stored = begin(here)
    ended = next(r for r in stored.records() if r.state == "complete")
    done = Replicate(str(ended.number), 0, ended.parameters)
    for reason in (UNFINISHED, None):
        trial = stored.study.ask(study_problem(wide, stored.settings).space.distributions)
        for key, value in {REPEATS: done.repeats, SEED_INDEX: 0, "reason": reason}.items():
            trial.set_user_attr(key, value)
        stored.study.tell(trial, state=TrialState.PRUNED)
        assert is_done(stored, [done]) == (reason is None)


def test_no_advice_is_an_error_that_says_so(nowhere: Path) -> None:
    write_begun(nowhere, presses=False)
    with pytest.raises(InputError, match=r"--widen: the best of 20 complete trials of study tiny"):
        begin(nowhere)
    assert not (nowhere / "tiny-wide.toml").exists()


def test_what_would_change_a_values_meaning_is_refused(here: Path) -> None:
    other = load_definition("tiny.toml", ["budget.steps=5"])
    with pytest.raises(StorageError, match=r"budget\.steps \(4 -> 5\)"):
        begin_wider("tiny.toml", other, None)
    assert not (here / "tiny-wide.toml").exists()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [("steps = 4", "steps = 5", "budget.steps"), ("K = [1, 3]", "K = [1, 2]", "parameters.K")],
)
def test_another_file_of_that_name_is_left_alone(here: Path, old: str, new: str, key: str) -> None:
    (here / "tiny-wide.toml").write_text(TINY.replace(old, new))
    with pytest.raises(InputError, match=rf"tiny-wide\.toml is there already.* differs in {key}"):
        begin(here)
    assert not (here / "storage" / "tiny-wide.db").exists()


def test_a_written_study_file_reads_as_the_same_study(tmp_path: Path) -> None:
    text = """
    family = "betamix"
    resolution = 32
    [parameters]
    late = ["conv", "fused"]
    stem = 2
    G0 = {low = 0.5, high = 12, prior = {mean = 2, std = 0.5}}
    [dataset]
    name = "imagefolder"
    root = 'a "quoted" \\ folder'
    [recipe]
    preset = "fast"
    learning_rate = {low = 1e-4, high = 1e-2, log = true, prior = {mean = 1e-3, std = 1}}
    crop_scale = [0.5, 1.0]
    [budget]
    seconds = 2.5
    [limits]
    memory_gib = "none"
    scaled = {resolution = 64, num_params = 3_000_000}
    [search]
    start = ["plain"]
    [track]
    tensorboard = true
    """
    (tmp_path / "a.toml").write_text(text)
    given = load_definition(tmp_path / "a.toml")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.toml").write_text(study_file(given, "why\nand how"))
    assert load_definition(tmp_path / "b" / "a.toml") == given


def test_a_searched_recipe_value_is_widened_too_and_priors_stay(nowhere: Path) -> None:
    rate = "learning_rate = {low = 1e-4, high = 1e-2, log = true, prior = {mean = 1e-3, std = 1}}"
    text = TINY.replace("batch_size = 32", f"batch_size = 32\n{rate}")
    k = "K = {low = 1, high = 3, prior = {mean = 2, std = 1}}"
    write_begun(nowhere, text=text.replace("K = [1, 3]", k))
    wide, stored = begin(nowhere)
    priors = {p.name: p.prior for p in wide.searched if isinstance(p, Real) and p.prior}
    assert priors == {"K": (2, 1), "recipe.learning_rate": (1e-3, 1)}
    assert begin(nowhere)[0] == wide
    assert wide.ranges["K"] == (1, 4)
    assert wide.ranges["recipe.learning_rate"] == (1e-4, 0.1)
    assert stored.study.trials[0].distributions["recipe.learning_rate"].high == 0.1


SMALL_IS_GOOD = """
family = "pyramid"
resolution = 16
[parameters]
stages = [2, 3]
[dataset]
name = "digits"
validation = 0.25
[recipe]
evaluations = 4
[budget]
steps = 2
[objective]
name = "size"
[limits]
memory_gib = 1
[search]
sobol_trials = 8
min_feasible = 4
trials = 26
"""


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_a_wider_search_finds_what_lay_beyond(nowhere: Path) -> None:
    (nowhere / "size.toml").write_text(SMALL_IS_GOOD)
    narrow, log = load_definition("size.toml"), AcknowledgedLog(nowhere / "log")
    optimize(narrow, "sqlite:///storage/size.db", SearchOptions("cpu", 1), log)
    wide = load_definition(begin_wider("size.toml", narrow, None))
    assert wide.ranges["width"] == (2, 16)  # half again of two octaves
    stored = optimize(wide, "sqlite:///storage/size-wide.db", SearchOptions("cpu", 1, 6), log)
    records = stored.records()
    new = [r for r in records if COPIED_FROM not in r.audit]
    assert [r.number for r in new] == list(range(len(records) - 6, len(records)))
    assert {r.phase for r in new} == {"gp"}
    assert not any(FALLBACK in r.audit for r in records), "the space is small, but not exhausted"
    best = max((r for r in records if r.value), key=lambda r: r.value or 0)
    assert best in new
    assert best.parameters["width"] < 4


@pytest.mark.slow
def test_the_command_begins_the_wider_study_and_goes_on(here: Path) -> None:
    told = ask_json(here, "status", "--study", "tiny.toml")
    assert [a["wider"] for a in told["range_advice"]] == [[1, 4]]
    best = ask_json(here, "best", "--study", "tiny.toml")
    assert best["range_advice"] == told["range_advice"]
    out, _ = ask(here, "status", "--study", "tiny.toml")
    assert "to go on with wider ranges: betanas optimize --study tiny.toml --widen" in out
    wide = ("optimize", "--study", "tiny.toml", "--widen", "--trials", "1", "--device", "cpu")
    _, err = run(here, *wide, "--nproc-per-node", "1")
    assert "tiny-wide.toml has the wider ranges: from now on, --study" in err
    status = ask_json(here, "status", "--study", "tiny-wide.toml")
    assert status["study"] == "tiny-wide"
    assert status["feasible"] == COMPLETE + 1
    assert status["target"] == COMPLETE + 7
    _, err = ask(here, "optimize", "--study", "tiny-wide.toml", "--widen", code=2)
    assert "error: --widen: the best of 21 complete trials of study tiny-wide press" in err
