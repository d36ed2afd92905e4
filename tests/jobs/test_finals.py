"""``betanas optimize --finals``: who is trained for longer, killed, shared, and what is told."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from command import (
    ask,
    ask_json,
    descendants,
    is_alive,
    run,
    run_json,
    start,
    wait_for,
    write_study,
)
from faults import DEVICES, AcknowledgedLog, CheapTrainer, begun, start_fresh_process, work
from faults import write_definition as write_cheap

from betanas.analysis.finals import Finals, finals_of
from betanas.cores import available_cores
from betanas.database.finals import Round, StoredFinals
from betanas.database.stored import StoredStudy
from betanas.errors import InputError
from betanas.jobs.finals import choose_entrants, hold_finals, is_due, make_plan, plan_rounds
from betanas.jobs.load import load_study
from betanas.jobs.model_names import plan_training
from betanas.jobs.train import TrainOptions
from betanas.search.plan import StudyProblem, planned_problem, study_problem
from betanas.study.amounts import amount_text, parse_amount
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrialRecord

# -- what is planned ----------------------------------------------------------------------------


def test_rounds_cost_no_more_than_they_may_and_end_at_the_users_time() -> None:
    assert plan_rounds("seconds", 240, 10, 720, 100) == (
        Round(26.6, 9),
        Round(80, 3),
        Round(240, 1),
    )
    for total in (300, 500, 1000, 4000, 20_000):
        rounds = plan_rounds("seconds", 240, 30, total, 100)
        assert rounds[-1].amount == 240
        assert all(r.amount > 30 for r in rounds)
        cost = sum(r.amount * r.networks for r in rounds)
        assert cost <= total or [r.networks for r in rounds] == [3, 1]
        assert [r.networks for r in rounds] == sorted((r.networks for r in rounds), reverse=True)
    # What pays for little more than itself is not worth a round of its own.
    assert [r.amount for r in plan_rounds("seconds", 8, 4, 48, 100)] == [8]
    assert plan_rounds("epochs", 9, 2, 90, 2) == (Round(9, 2),)


@pytest.mark.parametrize(
    ("said", "unit", "amount", "shown"),
    [
        ("15m", "seconds", 900, "15 min"),
        ("240s", "seconds", 240, "4 min"),
        ("1.5 h", "seconds", 5400, "90 min"),
        ("4min", "seconds", 240, "4 min"),
        ("9e2s", "seconds", 900, "15 min"),
        (90, "seconds", 90, "90 s"),
        ("2_000 images", "images", 2000, "2,000 images"),
        ("1epoch", "epochs", 1, "1 epoch"),
        ("2_500 Gmacs", "macs", 2.5e12, "2.5 Tmacs"),
        ("0.5Tmacs", "macs", 5e11, "500 Gmacs"),
    ],
)
def test_amounts_are_read_and_shown(said: str | int, unit: str, amount: float, shown: str) -> None:
    found = parse_amount(said, "seconds")
    assert (found.unit, found.amount) == (unit, amount)
    assert amount_text(found.unit, found.amount) == shown


@pytest.mark.parametrize("said", ["soon", "-5s", "0s", "1.5 epochs", "5 parsecs", "1e30s", "e3s"])
def test_what_is_no_amount_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"^must be .*but got '"):
        parse_amount(said, "seconds")


def problem_of(definition: StudyDefinition) -> StudyProblem:
    return planned_problem(definition, 10, None, None)


def small_ones_first(problem: StudyProblem, number: int) -> list[TrialRecord]:
    """Trials of which the smaller ones are the better ones, as after a short training."""
    kernels = problem.feasible_kernels(64)[:number]
    macs = problem.rules.costs(kernels)["macs"]
    return [
        TrialRecord(
            i,
            "complete",
            "sobol",
            0.9 - 1e-9 * float(cost),
            parameters=problem.space.kernel(kernel),
        )
        for i, (kernel, cost) in enumerate(zip(kernels, macs, strict=True))
    ]


def test_larger_and_wider_networks_enter_beside_the_best() -> None:
    definition = load_definition("pictures", {"limits.macs": 200_000_000})
    problem = problem_of(definition)
    records = small_ones_first(problem, 20)
    by_value = sorted(records, key=lambda r: -(r.value or 0))
    chosen = list(islice(choose_entrants(problem, records, None, 2.0), 9))
    assert chosen[0].trial == by_value[0].number
    reasons = Counter(e.why for e in chosen)
    assert all(reasons[why] >= 2 for why in ("value", "size", "wider"))
    sizes = [e.macs for e in chosen if e.why == "size"]
    assert sizes == sorted(sizes)
    assert sizes[0] > chosen[0].macs
    space = problem.space
    vectors = space.vectors([e.parameters for e in chosen])
    assert problem.rules.assess(vectors).feasible.all()
    assert len({problem.rules.identity(v) for v in vectors}) == len(chosen)
    for e in chosen:
        whole = records[e.trial or 0]
        assert e.value == (whole.value if e.widths == 1 else None)
        if e.why == "wider":
            assert 1 < e.widths <= 2
            assert e.parameters["G0"] == pytest.approx(e.widths * whole.parameters["G0"])


def test_the_recommended_kernel_enters_and_one_that_was_trained_leads() -> None:
    problem = problem_of(load_definition("pictures"))
    records = small_ones_first(problem, 12)
    untried = problem.space.kernel(problem.feasible_kernels(64)[12])
    all_of_them = list(choose_entrants(problem, records, untried, 1.0))
    assert all_of_them[0].value == max(r.value or 0 for r in records)
    assert [e.title for e in all_of_them].count("the recommended kernel") == 1
    tried = dict(records[7].parameters)
    lead = next(choose_entrants(problem, records, tried, 1.0))
    assert (lead.trial, lead.why) == (7, "value")


def test_what_was_measured_enters_whatever_is_predicted_of_it_by_now() -> None:
    """By what is learnt since, nothing is feasible any more."""
    definition = load_definition("pictures")
    problem = problem_of(definition)
    records = small_ones_first(problem, 12)
    vectors = problem.space.vectors([r.parameters for r in records])
    assert problem.rules.assess(vectors).feasible.all()
    rules = replace(problem.rules, memory_below=1.0)
    assert not rules.assess(vectors).feasible.any()
    doubtful = replace(problem, rules=rules)
    chosen = list(choose_entrants(doubtful, records, None, 2.0))
    assert {e.trial for e in chosen} == {r.number for r in records}
    assert {e.widths for e in chosen} == {1.0}


def test_a_final_that_answers_too_slowly_by_now_has_ended(tmp_path: Path) -> None:
    definition = write_cheap(tmp_path)
    url = f"sqlite:///{tmp_path}/cheap.db"
    work(definition, url, tmp_path / "log", 0.0, 20)
    stored = StoredStudy.load(url, "cheap")
    problem = study_problem(definition, stored.settings)
    plan = make_plan(definition, parse_amount("9steps", "steps"), stored, problem, stored.records())
    finals = StoredFinals.begin(stored)
    entrant = plan.entrants[0]
    claimed = finals.claim(plan, 0, entrant, problem.space.distributions)
    assert claimed is not None
    finals.stored.reject(claimed, "latency")
    now = Finals(plan, finals.trained())
    assert now.result(0, entrant) is not None
    assert now.value(0, entrant) is None
    assert entrant not in now.ranked(0)


# -- with a database and workers ----------------------------------------------------------------


@pytest.fixture
def cheap(tmp_path: Path) -> tuple[StudyDefinition, str, Path]:
    """A finished study whose trainings cost nothing."""
    definition = write_cheap(tmp_path)
    changes = {"sobol_trials": 8, "trials": 4, "sampler": "random", "finals": "9steps"}
    search = definition.search.model_copy(update={**changes, "finals_share": 12.0})
    definition = definition.model_copy(update={"search": search})
    url = f"sqlite:///{tmp_path}/cheap.db"
    work(definition, url, tmp_path / "log", 0.0, 20)
    return definition, url, tmp_path


def hold(definition: StudyDefinition, url: str, folder: Path) -> None:
    stored = begun(definition, url)
    problem = study_problem(definition, stored.settings)
    reporter = AcknowledgedLog(folder / "finals")
    assert definition.finals is not None
    trainer = CheapTrainer(0.02)
    hold_finals(definition, definition.finals, stored, problem, url, DEVICES, trainer, reporter)


@pytest.mark.slow
def test_several_workers_share_the_trainings_of_one_plan(
    cheap: tuple[StudyDefinition, str, Path],
) -> None:
    definition, url, folder = cheap
    before = StoredStudy.load(url, "cheap").records()
    workers = [start_fresh_process(hold, definition, url, folder) for _ in range(3)]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    stored = StoredStudy.load(url, "cheap")
    assert stored.records() == before
    assert not is_due(definition, stored)
    finals = StoredFinals.load(stored)
    found = finals_of(stored)
    assert finals is not None
    assert found is not None
    (plan,) = finals.plans()
    records = finals.stored.records()
    assert {(r.state, r.phase) for r in records} == {("complete", "final")}
    assert len(records) == len(finals.trained()) == sum(r.networks for r in plan.rounds)
    values = [found.value(0, e) or 0.0 for e in plan.entrants]
    assert found.winner is not None
    assert found.value(1, found.winner) == max(values)


@pytest.mark.slow
def test_a_study_that_grows_has_other_finals_that_share_trainings(
    cheap: tuple[StudyDefinition, str, Path],
) -> None:
    definition, url, folder = cheap
    hold(definition, url, folder)
    stored = begun(definition, url)
    hold(definition, url, folder)  # there is nothing left to do
    finals = StoredFinals.load(stored)
    assert finals is not None
    assert len(finals.plans()) == 1
    work(definition, url, folder / "log", 0.0, 6)
    assert is_due(definition, stored)
    problem = study_problem(definition, stored.settings)
    assert definition.finals is not None
    plan = make_plan(definition, definition.finals, stored, problem, stored.records())
    again = {e.title for e in plan.entrants} & {e.title for e in finals.plans()[0].entrants}
    assert again
    known = {name: r.number for name, r in finals.trained().items()}
    hold(definition, url, folder)
    assert len(finals.plans()) == 2
    after = {name: r.number for name, r in finals.trained().items()}
    assert known.items() <= after.items()
    longer = definition.model_copy(
        update={"search": definition.search.model_copy(update={"finals": "27steps"})}
    )
    assert is_due(longer, stored)


@pytest.mark.slow
def test_killed_and_started_again_it_trains_each_network_once(tmp_path: Path) -> None:
    write_study(tmp_path)
    study = ("--study", "tiny.toml")
    command = ("optimize", *study, "--finals", "24steps")
    process = start(tmp_path, *command)
    folders = tmp_path / "storage" / "tiny:finals"
    wait_for(lambda: len(list(folders.glob("*/agent.pid"))) > 1, seconds=200)
    below = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)
    stored = StoredStudy.load(f"sqlite:///{tmp_path}/storage/tiny.db", "tiny")
    before, finals = stored.records(), StoredFinals.load(stored)
    assert finals is not None
    early = finals.stored.records()
    assert not is_due(load_definition(tmp_path / "tiny.toml"), stored)  # its file asks for none

    told = run_json(tmp_path, *command)
    assert StoredStudy.load(f"sqlite:///{tmp_path}/storage/tiny.db", "tiny").records() == before
    finals = StoredFinals.load(stored)
    assert finals is not None
    (plan,) = finals.plans()
    after = finals.stored.records()
    assert len(after) == sum(r.networks for r in plan.rounds)
    assert {r.state for r in after} == {"complete"}
    assert [r for r in early if r.state == "complete"] == [
        r for r, was in zip(after, early, strict=False) if was.state == "complete"
    ]
    assert told["finals"]["done"]
    assert told["finals"]["amount"] == 24
    assert told["feasible"] == 7
    last = told["finals"]["rounds"][-1]["trainings"]
    assert told["finals"]["winner"]["value"] == max(t["value"] for t in last)

    best = ask_json(tmp_path, "best", *study)
    assert best["finals"] == told["finals"]
    run(tmp_path, *command)  # there is nothing left to train
    assert len(finals.stored.records()) == len(after)
    assert ask(tmp_path, "status", *study)[0].count("for 24 steps of training: ") == 1
    found = plan_training(
        f"{tmp_path}/tiny.toml:final",
        TrainOptions(storage=f"sqlite:///{tmp_path}/storage/tiny.db"),
    )
    assert (found.budget.unit, found.budget.amount) == ("steps", 24)
    final = load_study(
        tmp_path / "tiny.toml", storage=f"sqlite:///{tmp_path}/storage/tiny.db"
    ).final()
    assert final is not None
    assert final.parameters == best["finals"]["winner"]["parameters"]
    assert final.value == best["finals"]["winner"]["value"]
    assert final.architecture == found.network


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2, reason="two workers need two processor cores")
def test_workers_of_one_command_hold_the_finals_together(tmp_path: Path) -> None:
    write_study(tmp_path)
    two = ("--study", "tiny.toml", "--device", "cpu", "--workers", "2")
    _, err = run(tmp_path, "optimize", *two, "--finals", "8steps")
    told = ask_json(tmp_path, "status", "--study", "tiny.toml")
    assert told["finals"]["done"]
    trainings = sum(r["networks"] for r in told["finals"]["rounds"])
    assert sum(line.startswith("final ") for line in err.splitlines()) == trainings
    assert err.count("of training in all") == 1


def test_a_study_without_finals_has_no_final_model(tmp_path: Path) -> None:
    definition = write_cheap(tmp_path)
    url = f"sqlite:///{tmp_path}/cheap.db"
    begun(definition, url)
    with pytest.raises(InputError, match="has no finals with a value; hold them by betanas"):
        plan_training(f"{tmp_path}/cheap.toml:final", TrainOptions(storage=url))


def test_finals_do_not_change_what_a_trial_means(tmp_path: Path) -> None:
    definition = write_cheap(tmp_path)
    search = definition.search.model_copy(update={"finals": "9steps", "finals_share": 0.3})
    assert definition.model_copy(update={"search": search}).meaning() == definition.meaning()
