"""A study analysed and written down: one HTML file, figures, and every number as CSV and JSON."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from optuna import create_study
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import create_trial

from betanas.analysis.clusters import (
    CLUSTERS,
    TOP,
    Clustering,
    cluster_best,
    complete_trials,
    kernel_matrix,
)
from betanas.analysis.confirmation import confirmed
from betanas.analysis.evidence import find_replicates, outcomes_by_phase
from betanas.analysis.finals import finals_of
from betanas.analysis.findings import DecodedKernel, Findings
from betanas.analysis.importance import (
    Dependence,
    length_scale_importance,
    main_effects,
    partial_dependence,
)
from betanas.analysis.measure import Measure
from betanas.analysis.page import render_page
from betanas.analysis.ranges import advise_ranges
from betanas.analysis.scaling import RESOLUTIONS, scale
from betanas.analysis.status import observed_best, summarize
from betanas.analysis.tables import all_tables
from betanas.architecture.complexity import count
from betanas.architecture.decoding import TrivialKernelError, decode
from betanas.arrays import FloatArray
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.errors import InputError
from betanas.files import finite, make_folder, write_whole
from betanas.jobs.front import front_of
from betanas.jobs.recommend import recommended
from betanas.parameters import Choice, Parameter
from betanas.search.plan import StudyProblem, study_problem
from betanas.search.recommend import Recommendation, evenly_ranked
from betanas.search.space import Space
from betanas.search.surrogate import Surrogate, one_thread
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import BATCH_SIZE, kernel_of
from betanas.trial import TrialRecord, whole

FANOVA_TRIALS = 200  # its trees are Python's
MIN_TRIALS = 8  # complete ones, before importance means anything


def analyse(
    definition: StudyDefinition, stored: StoredStudy, top: int = TOP, clusters: int = CLUSTERS
) -> Findings:
    """Analyses a study as it stands, also while it runs.

    Args:
        definition: The study file.
        stored: Its database.
        top: How many of the best trials to cluster.
        clusters: Into how many clusters.
    """
    found = analyse_records(definition, stored.settings, stored.records(), top, clusters)
    found = replace(found, finals=finals_of(stored))
    front = front_of(stored)
    if front is None:
        return found
    return replace(found, front=front, summary={**found.summary, **front.to_json()})


def analyse_records(
    definition: StudyDefinition,
    settings: Settings,
    records: Sequence[TrialRecord],
    top: int = TOP,
    clusters: int = CLUSTERS,
) -> Findings:
    """Analyses trials; see ``analyse``."""
    notes: list[str] = []
    problem = study_problem(definition, settings)
    parameters, everything = definition.searched, records
    records = whole(definition, records)
    best = complete_trials(records)
    found = recommended(definition, settings, everything)
    known = sum(r.state == "complete" and r.value is not None for r in records)
    if found is not None and len(found.quality.measured) < known:
        notes.append(
            f"the model has learnt from {len(found.quality.measured)} of {known} complete trials, "
            "chosen evenly over their ranks"
        )
    model = found.surrogate if found is not None and len(best) >= MIN_TRIALS else None
    if model is None:
        notes.append(
            f"importance and partial dependence take {MIN_TRIALS} complete trials, "
            f"but there are {len(best)}"
        )
    widening = found.quality.widening if found is not None else 1.0
    dependence = _dependence(problem, model, best, widening)
    observed = observed_best(records)
    return Findings(
        summary=summarize(definition.name, everything, definition.search.trials),
        facts=_facts(definition, settings, records),
        class_names=settings.classes,
        parameters=parameters,
        records=records,
        measure=Measure.of(definition.objective, everything),
        observed=observed,
        recommended=found,
        networks=_networks(definition, settings, observed, found),
        clustering=_clusters(records, parameters, top, clusters, notes),
        importance=_importance(problem, best, model, dependence),
        dependence=dependence,
        replicates=find_replicates(records),
        outcomes=outcomes_by_phase(records),
        scaling=scale(
            definition.search_family,
            observed.kernel,
            sorted({*RESOLUTIONS, definition.resolution}),
            len(settings.classes),
            definition.recipe.batch_size,
        )
        if observed
        else [],
        range_advice=advise_ranges(problem, records),
        confirmed=confirmed(records),
        notes=tuple(notes),
    )


def _rounded(value: float) -> float:
    """Six digits: enough for people, and the same on other machines."""
    return float(f"{value:.6g}")


def _rounded_all(values: FloatArray) -> FloatArray:
    return np.array([_rounded(v) for v in values], dtype=np.float64)


def _dependence(
    problem: StudyProblem,
    model: Surrogate | None,
    best: Sequence[TrialRecord],
    widening: float,
) -> list[Dependence]:
    """The model's partial dependence on each parameter, over the trials' kernels."""
    if model is None:
        return []

    def predict(asked: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean, std = model.predict(asked, problem.rules.assess(asked).features)
        return mean, std * widening

    parameters = problem.space.parameters
    kernels = kernel_matrix(sorted(best, key=lambda r: r.number), parameters)
    with one_thread():
        found = partial_dependence(predict, kernels, parameters)
    return [replace(d, mean=_rounded_all(d.mean), std=_rounded_all(d.std)) for d in found]


def _length_scales(space: Space, model: Surrogate) -> dict[str, float]:
    """Of each free parameter on the unit cube.

    Of a choice, which has an input an option, that of a number whose ends are as far apart as its
    options are, in the root mean square over their pairs.
    """
    inverse = 1 / model.model.scales
    found, column = {}, 0
    for parameter in (space.parameters[i] for i in space.free):
        width = len(parameter.options) if isinstance(parameter, Choice) else 1
        own = inverse[column : column + width]
        found[parameter.name] = float(1 / np.sqrt(np.mean(own**2)))
        column += width
    return found


def _clusters(
    records: Sequence[TrialRecord],
    parameters: Sequence[Parameter],
    top: int,
    clusters: int,
    notes: list[str],
) -> Clustering | None:
    try:
        return cluster_best(records, parameters, top, clusters)
    except InputError as error:
        notes.append(f"no clusters: {error}")
        return None


def _importance(
    problem: StudyProblem,
    best: Sequence[TrialRecord],
    model: Surrogate | None,
    dependence: Sequence[Dependence],
) -> dict[str, dict[str, float]]:
    """Importance by every method; empty where there is too little to learn from."""
    if model is None:
        return {}
    values = np.array([r.value for r in best], dtype=np.float64)
    spread = [best[i] for i in evenly_ranked(values, FANOVA_TRIALS)]
    found = {
        "GP length scales": length_scale_importance(_length_scales(problem.space, model)),
        "GP main effects": main_effects(dependence),
        "fANOVA": optuna_importance(
            problem, spread, lambda: FanovaImportanceEvaluator(n_trees=16, seed=0)
        ),
        "PED-ANOVA": optuna_importance(problem, best, PedAnovaImportanceEvaluator),
    }
    return {
        method: {name: _rounded(own[name]) for name in problem.space.names if name in own}
        for method, own in found.items()
        if own
    }


def optuna_importance(
    problem: StudyProblem,
    records: Sequence[TrialRecord],
    evaluator: Callable[[], BaseImportanceEvaluator],
) -> dict[str, float]:
    """Optuna's importance of each parameter over complete trials; empty if it cannot tell."""
    space = problem.space
    distributions = space.distributions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = create_study(direction="maximize")
        study.add_trials(
            [
                create_trial(
                    value=r.value,
                    params={n: r.parameters[n] for n in space.names},
                    distributions=dict(distributions),
                )
                for r in sorted(records, key=lambda r: r.number)
                if space.holds(r.parameters)
            ]
        )
        try:
            return {
                name: float(share)
                for name, share in get_param_importances(study, evaluator=evaluator()).items()
            }
        except (RuntimeError, ValueError):  # all values equal, or all parameters fixed
            return {}


def _networks(
    definition: StudyDefinition,
    settings: Settings,
    observed: TrialRecord | None,
    recommended: Recommendation | None,
) -> tuple[DecodedKernel, ...]:
    found = []
    for title, origin in (("observed best", observed), ("recommended best", recommended)):
        if origin is None:
            continue
        parameters = dict(origin.parameters)
        try:
            architecture = decode(
                definition.search_family,
                kernel_of(parameters),
                definition.resolution,
                len(settings.classes),
            )
        except TrivialKernelError:
            continue
        costs = count(architecture, definition.recipe.batch_size)
        found.append(DecodedKernel(title, parameters, architecture, costs))
    return tuple(found)


def _batch_size(definition: StudyDefinition) -> int | str:
    searched = definition.recipe_ranges.get(BATCH_SIZE)
    if searched is None:
        return definition.recipe.batch_size
    return f"{searched.low:g} to {searched.high:g}, searched"


def _facts(
    definition: StudyDefinition, settings: Settings, records: Sequence[TrialRecord]
) -> dict[str, str | int | float]:
    budget = definition.budget
    facts: dict[str, str | int | float] = {
        "family": definition.family,
        "resolution": definition.resolution,
        "data set": definition.dataset.name,
        "classes": len(settings.classes),
        "budget of a trial": f"{budget.amount:g} {budget.unit}",
        "batch size": _batch_size(definition),
        "sampler": definition.search.sampler,
        "seed": definition.search.seed,
        "training time in all (s)": round(sum(r.train_seconds or 0.0 for r in records), 1),
    }
    devices = sorted({str(r.audit["device"]) for r in records if r.audit.get("device")})
    if devices:
        facts["devices"] = ", ".join(devices)
    if definition.limits.num_params is not None:
        facts["limit of parameters"] = definition.limits.num_params
    return facts


def write_report(findings: Findings, folder: Path) -> list[Path]:
    """Writes the report and every number and figure beside it; files appear whole.

    Args:
        findings: What ``analyse`` found.
        folder: Made if it is not there; files of the same names are replaced.

    Returns:
        The files, the HTML page first.

    Raises:
        InputError: If the folder cannot be written.
    """
    make_folder(folder, "figures")
    tables = all_tables(findings)
    page, pictures = render_page(findings, tables)
    files: dict[str, str | bytes] = {
        "report.html": page,
        "report.json": json.dumps(finite(findings.to_json()), indent=1, allow_nan=False) + "\n",
    }
    files |= {f"{name}.csv": table.to_csv() for name, table in tables.items()}
    files |= {f"figures/{name}": content for name, content in pictures.items()}
    return [write_whole(folder / name, content) for name, content in files.items()]
