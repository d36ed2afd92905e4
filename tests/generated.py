"""Studies that never trained: real kernels and costs under a made-up accuracy, for speed and size.

They show how the analysis behaves on many trials; nothing made here is evidence of anything.
"""

import datetime
import math
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from betanas.architecture.decoding import decode
from betanas.database.connect import open_database
from betanas.database.reading import SETTINGS_KEY
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.search.plan import StudyProblem, study_problem
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.study.recipe import kernel_of
from betanas.trial import TrialRecord

NOISE = 0.004
_START = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - as Optuna stores it
_AUDIT = {
    "steps": 400,
    "images": 40_000,
    "data_wait_seconds": 1.0,
    "evaluation_seconds": 12.0,
    "startup_seconds": 3.0,
    "other_seconds": 0.2,
    "device": "made up",
    "ranks": 1,
}


def generated_records(
    definition: StudyDefinition, settings: Settings, number: int, seed: int = 0
) -> list[TrialRecord]:
    """The first points of the study's Sobol phase, then feasible points near the best."""
    problem = study_problem(definition, settings)
    sobol = min(number, definition.search.sobol_trials)
    if not number:
        return []
    kernels = np.concatenate(
        [problem.sobol_points(0, sobol), _near_good(problem, number - sobol, seed)]
    )
    verdicts = problem.rules.check(kernels)
    rng = np.random.default_rng(seed)
    records = []
    for i, kernel in enumerate(kernels):
        named = problem.space.kernel(kernel)
        reason, costs = verdicts.reason(i), verdicts.complexities.row(i)
        known: dict = {"num_params": costs.num_params, "macs": costs.macs}
        known |= {"activation_bytes": costs.activation_bytes, "fingerprint": None}
        if reason == "no_contraction":
            known = {}
        else:
            shape = decode(definition.search_family, kernel_of(named), definition.resolution, 100)
            known["fingerprint"] = shape.fingerprint
        value = accuracy(named, costs.macs) + NOISE * rng.standard_normal()
        state = "complete" if reason is None else "pruned"
        history = [
            {
                "epoch": e,
                "steps": 50 * e,
                "train_seconds": 30.0 * e,
                "accuracy": value * (1 - math.exp(-e / 2.5)),
                "train_loss": 4.0 * math.exp(-e / 3),
            }
            for e in range(1, 9)
        ]
        records.append(
            TrialRecord(
                i,
                state,
                "sobol" if i < sobol else "gp",
                value if reason is None else None,
                None if reason is None else str(reason),
                named,
                **known,
                train_seconds=300.0 if reason is None else None,
                epochs=8.0 if reason is None else None,
                audit={**_AUDIT, "history": history} if reason is None else {},
            )
        )
    return records


def accuracy(kernel: dict[str, float], macs: int) -> float:
    """A smooth landscape with a best size, and a preference for early width and late MBConv."""
    size = math.log10(max(macs, 1)) - 8.6
    return 0.74 - 0.05 * size**2 - 0.04 * (kernel["B"] - 0.3) ** 2 - 0.02 * kernel["Da"] ** 2


def _near_good(problem: StudyProblem, number: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    d = len(problem.space.names)
    if number < 1:
        return np.zeros((0, d))
    pool = problem.space.kernels(rng.random((8 * number + 64, d)))
    pool = pool[problem.rules.check(pool).feasible]
    assert len(pool) >= number
    return pool[:number]


def settings_of(definition: StudyDefinition, classes: tuple[str, ...] | None = None) -> Settings:
    """As if the study had begun on a machine without a memory limit."""
    names = classes or tuple(f"class {i}" for i in range(100))
    return Settings(definition.meaning(), names, "made up", None, None)


def generate_database(
    path: Path, number: int, study: str = "betanet2", classes: tuple[str, ...] | None = None
) -> tuple[StudyDefinition, StoredStudy]:
    """Writes a database of ``number`` trials as ``betanas optimize`` would have left it."""
    definition = load_definition(study)
    settings = settings_of(definition, classes)
    records = generated_records(definition, settings, number)
    return definition, write_database(path, definition, settings, records)


def write_database(
    path: Path, definition: StudyDefinition, settings: Settings, records: list[TrialRecord]
) -> StoredStudy:
    """Writes a database of these trials."""
    url = f"sqlite:///{path}"
    database = open_database(url)
    made = optuna.create_study(study_name=definition.name, storage=database, direction="maximize")
    made.set_user_attr(SETTINGS_KEY, settings.to_json())
    ranges = study_problem(definition, settings).space.distributions
    made.add_trials([_frozen(record, ranges) for record in records])
    return StoredStudy.load(url, definition.name)


def _frozen(
    record: TrialRecord, ranges: dict[str, optuna.distributions.FloatDistribution]
) -> FrozenTrial:
    facts = {
        "phase": record.phase,
        "reason": record.reason,
        "num_params": record.num_params,
        "macs": record.macs,
        "activation_bytes": record.activation_bytes,
        "fingerprint": record.fingerprint,
        "train_seconds": record.train_seconds,
        "epochs": record.epochs,
        **record.audit,
    }
    start = _START + datetime.timedelta(minutes=6 * record.number)
    return FrozenTrial(
        number=record.number,
        state=TrialState[record.state.upper()],
        value=record.value,
        datetime_start=start,
        datetime_complete=(
            None if record.state == "running" else start + datetime.timedelta(minutes=5)
        ),
        params=dict(record.parameters),
        distributions=ranges,
        user_attrs={key: value for key, value in facts.items() if value is not None},
        system_attrs={},
        intermediate_values={},
        trial_id=record.number,
    )
