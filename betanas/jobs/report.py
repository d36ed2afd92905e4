"""A study analysed and written down: one HTML file, figures, and every number as CSV and JSON."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from betanas.analysis.evidence import (
    ModelQuality,
    Predict,
    find_replicates,
    leave_one_out,
    outcomes_by_phase,
)
from betanas.analysis.findings import Findings, Network, Recommended
from betanas.analysis.importance import (
    Dependence,
    length_scale_importance,
    main_effects,
    partial_dependence,
)
from betanas.analysis.page import render_page
from betanas.analysis.scaling import RESOLUTIONS, scale
from betanas.analysis.status import observed_best, summarize
from betanas.analysis.tables import all_tables
from betanas.architecture.complexity import count
from betanas.architecture.decoding import TrivialKernelError, decode
from betanas.arrays import FloatArray
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.errors import InputError
from betanas.files import make_folder, write_whole
from betanas.search.plan import StudyProblem, study_problem
from betanas.search.proposal import Evidence, Proposer
from betanas.search.recommend import recommend
from betanas.search.surrogate import one_thread
from betanas.study.definition import StudyDefinition, kernel_of
from betanas.trial import TrialRecord, numbered

MODEL_TRIALS = 500  # an exact Gaussian process takes their number cubed
FANOVA_TRIALS = 200  # its trees are Python's
MIN_TRIALS = 8  # complete ones, before importance means anything


@dataclass(frozen=True, slots=True)
class Model:
    """What the analysis asks of the search's Gaussian process.

    Attributes:
        predict: Mean and standard deviation of the noise-free accuracy.
        length_scales: Of each free parameter on the unit cube.
        noise_std: Of one training.
    """

    predict: Predict
    length_scales: Mapping[str, float]
    noise_std: float


def fit_model(problem: StudyProblem, records: Sequence[TrialRecord]) -> Model:
    """Fits the search's Gaussian process to complete trials."""
    space = problem.space
    kernels = kernel_matrix(records, space.names)
    values = np.array([r.value for r in records], dtype=np.float64)
    rules = problem.rules
    with one_thread():
        surrogate = Proposer(space, rules, problem.seed).fit(
            Evidence(kernels, values, np.zeros_like(values), kernels[:0])
        )

    def predict(asked: FloatArray) -> tuple[FloatArray, FloatArray]:
        with one_thread():
            return surrogate.predict(asked, rules.assess(asked).features)

    names = [space.names[i] for i in space.free]
    lengths = map(
        float, np.exp(surrogate.hyperparameters.log_scales)
    )  # those of features come last
    return Model(predict, dict(zip(names, lengths, strict=False)), surrogate.noise_std)


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
    return analyse_records(definition, stored.settings, stored.records(), top, clusters)


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
    ranges, named = definition.number_ranges, records
    records = numbered(definition, records)
    best = complete_trials(records)
    learnt = _spread(best, MODEL_TRIALS)
    if len(learnt) < len(best):
        notes.append(
            f"the model of this report has learnt from {len(learnt)} of {len(best)} complete "
            "trials, chosen evenly over their ranks"
        )
    replicates = [r for r in records if r.is_replicate and r.state == "complete"]
    asked = {r.number for r in (*learnt, *replicates)}
    recommended = _recommended(definition, problem, [r for r in named if r.number in asked])
    model = fit_model(problem, learnt) if len(learnt) >= MIN_TRIALS else None
    if model is None:
        notes.append(
            f"importance, partial dependence and model quality take {MIN_TRIALS} complete trials, "
            f"but there are {len(best)}"
        )
    dependence, quality = _ask(model, learnt, ranges)
    observed = observed_best(records)
    return Findings(
        summary=summarize(definition.name, named, definition.search.trials),
        facts=_facts(definition, settings, records),
        class_names=settings.classes,
        ranges=ranges,
        records=records,
        observed=observed,
        recommended=recommended,
        networks=_networks(definition, settings, observed, recommended),
        clustering=_clusters(records, list(ranges), top, clusters, notes),
        importance=_importance(problem, best, model, dependence),
        dependence=dependence,
        quality=quality,
        replicates=find_replicates(records),
        outcomes=outcomes_by_phase(records),
        scaling=scale(
            definition.search_family,
            definition.as_values(observed.kernel),
            sorted({*RESOLUTIONS, definition.resolution}),
            len(settings.classes),
            definition.recipe.batch_size,
        )
        if observed
        else [],
        confirmed=confirmed(records),
        notes=tuple(notes),
    )


def _spread(best: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """At most so many of them, evenly over their ranks, by number."""
    chosen = np.unique(np.linspace(0, len(best) - 1, min(most, len(best))).round().astype(int))
    return sorted((best[i] for i in chosen), key=lambda r: r.number)


def _rounded(value: float) -> float:
    """Six digits: the order of additions on another machine changes the sixteenth."""
    return float(f"{value:.6g}")


def _rounded_all(values: FloatArray) -> FloatArray:
    return np.array([_rounded(v) for v in values], dtype=np.float64)


def _recommended(
    definition: StudyDefinition, problem: StudyProblem, records: Sequence[TrialRecord]
) -> Recommended | None:
    found = recommend(problem, records)
    if found is None:
        return None
    numbers = definition.as_numbers(found.parameters)
    kernel = {name: _rounded(value) for name, value in numbers.items()}
    return Recommended(kernel, _rounded(found.predicted_value), _rounded(found.predicted_std))


def _ask(
    model: Model | None,
    records: Sequence[TrialRecord],
    ranges: Mapping[str, tuple[float, float]],
) -> tuple[list[Dependence], ModelQuality | None]:
    """Partial dependence and the leave-one-out test of a model."""
    if model is None:
        return [], None
    kernels = kernel_matrix(records, list(ranges))
    values = np.array([r.value for r in records], dtype=np.float64)
    dependence = [
        Dependence(d.name, d.grid, _rounded_all(d.mean), _rounded_all(d.std))
        for d in partial_dependence(model.predict, kernels, ranges)
    ]
    mean, std = model.predict(kernels)
    quality = leave_one_out(mean, std, values, model.noise_std)
    if quality is None:
        return dependence, None
    return dependence, ModelQuality(
        predicted=_rounded_all(quality.predicted),
        std=_rounded_all(quality.std),
        measured=quality.measured,
        noise_std=_rounded(quality.noise_std),
        r2=_rounded(quality.r2),
        rmse=_rounded(quality.rmse),
        spearman=_rounded(quality.spearman),
        coverage=_rounded(quality.coverage),
    )


def _clusters(
    records: Sequence[TrialRecord], names: list[str], top: int, clusters: int, notes: list[str]
) -> Clustering | None:
    try:
        return cluster_best(records, names, top, clusters)
    except InputError as error:
        notes.append(f"no clusters: {error}")
        return None


def _importance(
    problem: StudyProblem,
    best: Sequence[TrialRecord],
    model: Model | None,
    dependence: Sequence[Dependence],
) -> dict[str, dict[str, float]]:
    """Importance by every method; empty where there is too little to learn from."""
    if model is None:
        return {}
    spread = _spread(best, FANOVA_TRIALS)
    found = {
        "GP length scales": length_scale_importance(model.length_scales),
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
                    params=space.kernel(np.array([r.parameters[n] for n in space.names])),
                    distributions=dict(distributions),
                )
                for r in sorted(records, key=lambda r: r.number)
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
    recommended: Recommended | None,
) -> tuple[Network, ...]:
    found = []
    for title, kernel in (
        ("observed best", observed.kernel if observed else None),
        ("recommended best", kernel_of(recommended.parameters) if recommended else None),
    ):
        if kernel is None:
            continue
        try:
            architecture = decode(
                definition.search_family,
                definition.as_values(kernel),
                definition.resolution,
                len(settings.classes),
            )
        except TrivialKernelError:
            continue
        costs = count(architecture, definition.recipe.batch_size)
        found.append(Network(title, dict(kernel), architecture, costs))
    return tuple(found)


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
        "batch size": definition.recipe.batch_size,
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
    make_folder(folder)
    tables = all_tables(findings)
    page, pictures = render_page(findings, tables)
    files: dict[str, str | bytes] = {
        "report.html": page,
        "report.json": json.dumps(_finite(findings.to_json()), indent=1, allow_nan=False) + "\n",
    }
    files |= {f"{name}.csv": table.to_csv() for name, table in tables.items()}
    files |= {f"figures/{name}": content for name, content in pictures.items()}
    return [write_whole(folder / name, content) for name, content in files.items()]


def _finite(data: Any) -> Any:
    """Plain JSON: a loss that ran away is no number there."""
    if isinstance(data, float):
        return data if np.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data
