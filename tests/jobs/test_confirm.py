"""``betanas confirm``: real trainings, killed and shared, that leave the search as it was."""

from collections import Counter
from pathlib import Path

import pytest
from command import ask_json, descendants, is_alive, run, run_json, start, wait_for, write_study
from faults import (
    DEVICES,
    AcknowledgedLog,
    CheapTrainer,
    begun,
    start_process,
    work,
    write_definition,
)

from betanas.analysis.clusters import complete_trials
from betanas.database.stored import StoredStudy
from betanas.errors import InputError
from betanas.jobs.confirm import Wanted, plan_replicates, train_replicates
from betanas.jobs.trials import TrialRunner
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialRecord

pytestmark = pytest.mark.slow

CHEAP = ("--study", "tiny.toml")


def rows(folder: Path) -> list[TrialRecord]:
    return StoredStudy.load(f"sqlite:///{folder}/storage/tiny.db", "tiny").records()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("confirm")
    write_study(folder)
    run(folder, "optimize", *CHEAP)
    return folder


def test_killed_and_started_again_it_trains_each_repetition_once(finished: Path) -> None:
    before = rows(finished)
    best = complete_trials(before)
    command = ("confirm", *CHEAP, "--top", "2", "--seeds", "2")
    process = start(finished, *command)
    folders = finished / "storage" / "tiny"
    wait_for(lambda: len(list(folders.glob("*/agent.pid"))) > len(best) + 1)
    below = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)

    told = run_json(finished, *command)
    after = rows(finished)
    assert after[: len(before)] == before
    repeated = after[len(before) :]
    names = [r.number for r in best[:2]] + ["largest num_params"]
    got = Counter((r.audit["repeats"], r.audit["seed_index"]) for r in repeated)
    assert got == Counter((name, seed) for name in names for seed in (0, 1))
    assert {(r.phase, r.state) for r in repeated} == {("confirm", "complete")}
    for r in repeated:
        if r.audit["repeats"] == names[-1]:
            assert r.num_params >= max(b.num_params for b in best)
        else:
            assert r.fingerprint == before[r.audit["repeats"]].fingerprint
    assert {m["repeats"] for m in told["models"]} == set(names)
    assert all(len(m["values"]) == 2 for m in told["models"])
    assert len(told["pairwise"]) == 6
    assert told["against_largest"]["better"] == best[0].number

    out, _ = run(finished, *command)  # there is nothing left to train
    assert "beats the largest feasible model" in out
    status = ask_json(finished, "status", *CHEAP)
    assert status["best"]["number"] == best[0].number
    assert (status["feasible"], status["target"], status["replicates"]) == (7, 7, 6)
    run(finished, "optimize", *CHEAP)
    assert len(rows(finished)) == len(after)
    run(finished, "optimize", *CHEAP, "--set", "search.trials=8")
    (more,) = rows(finished)[len(after) :]
    assert (more.state, more.phase) == ("complete", "gp")


def test_a_study_in_its_sobol_phase_cannot_be_confirmed(tmp_path: Path) -> None:
    definition, url, _ = cheap_study(tmp_path, trials=5)
    stored = begun(definition, url)
    problem = study_problem(definition, stored.settings)
    with pytest.raises(InputError, match="begun 5 of the 8 trials that it opens with"):
        plan_replicates(problem, stored.records(), Wanted())


def cheap_study(folder: Path, trials: int = 12) -> tuple[StudyDefinition, str, Path]:
    """A finished study whose trainings cost nothing."""
    definition = write_definition(folder)
    search = definition.search.model_copy(
        update={"sobol_trials": 8, "trials": 4, "sampler": "random"}
    )
    definition = definition.model_copy(update={"search": search})
    url, log = f"sqlite:///{folder}/cheap.db", folder / "log"
    work(definition, url, log, 0.0, trials)
    return definition, url, log


def repeat_all(definition: StudyDefinition, url: str, log: Path, wanted: Wanted) -> None:
    stored = begun(definition, url)
    problem = study_problem(definition, stored.settings)
    folder, reporter = log.parent / "trials", AcknowledgedLog(log)
    runner = TrialRunner(definition, stored, problem, DEVICES, folder, reporter, prunes=False)
    plan = plan_replicates(problem, stored.records(), wanted)
    train_replicates(stored, problem, plan, runner, CheapTrainer(0.05))


def test_several_workers_share_the_repetitions(tmp_path: Path) -> None:
    definition, url, log = cheap_study(tmp_path)
    wanted = Wanted(top=3, seeds=4)
    workers = [start_process(lambda: repeat_all(definition, url, log, wanted)) for _ in range(3)]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    repeated = [r for r in StoredStudy.load(url, "cheap").records() if r.is_replicate]
    done = Counter((r.audit["repeats"], r.audit["seed_index"], r.state) for r in repeated)
    assert len(done) == 16
    assert set(done.values()) == {1}
    assert {state for _, _, state in done} == {"complete"}


def test_a_search_leaves_the_repetition_of_a_dead_worker_alone(tmp_path: Path) -> None:
    definition, url, log = cheap_study(tmp_path)

    def die_at_once() -> None:
        CheapTrainer.run = lambda *_: __import__("os")._exit(9)  # type: ignore[method-assign]
        repeat_all(definition, url, log, Wanted(top=1, seeds=2, largest="none"))

    dead = start_process(die_at_once)
    dead.join(60)
    assert dead.exitcode == 9
    stored = StoredStudy.load(url, "cheap")
    (running,) = [r for r in stored.records() if r.state == "running"]
    work(definition, url, log, 0.0, 2)
    assert stored.record(running.number).state == "running"
    repeat_all(definition, url, log, Wanted(top=1, seeds=2, largest="none"))
    assert stored.record(running.number).state == "complete"
    assert sum(r.is_replicate for r in stored.records()) == 2


def test_equal_networks_are_repeated_once_and_seeds_differ(tmp_path: Path) -> None:
    definition, url, log = cheap_study(tmp_path)
    stored = begun(definition, url)
    problem = study_problem(definition, stored.settings)
    records = stored.records()
    best = complete_trials(records)[0]
    twin = [*records, best.__class__(**{**best.to_json(), "number": len(records)})]
    plan = plan_replicates(problem, twin, Wanted(top=2, seeds=2, largest="none"))
    assert [p.repeats for p in plan].count(best.number) == 2
    assert len(records) not in [p.repeats for p in plan]
    repeat_all(definition, url, log, Wanted(top=2, seeds=2, largest="none"))
    tasks = [(tmp_path / "trials" / f"{r.number:05d}") for r in stored.records() if r.is_replicate]
    assert len(tasks) == 4
    with pytest.raises(InputError, match="--seeds >= 2"):
        plan_replicates(problem, records, Wanted(seeds=1))
