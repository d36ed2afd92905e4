"""A study made ready for optuna-dashboard: notes on its trials, and our figures as artifacts."""

import io
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from matplotlib.figure import Figure
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna_dashboard import get_note, save_note
from sqlalchemy.exc import SQLAlchemyError

from betanas.analysis.cells import short_count
from betanas.analysis.clusters import cluster_best, complete_trials
from betanas.analysis.evidence import history_of, outcomes_by_phase
from betanas.analysis.figures.architecture import draw_architecture
from betanas.analysis.figures.clusters import draw_cluster_means, draw_dendrogram
from betanas.analysis.figures.costs import draw_pareto
from betanas.analysis.figures.front import draw_front
from betanas.analysis.figures.search import (
    draw_history,
    draw_outcomes,
    draw_parallel_coordinates,
)
from betanas.analysis.figures.style import to_png
from betanas.analysis.figures.training import draw_training
from betanas.analysis.measure import Measure
from betanas.analysis.status import audit_warnings, observed_best, summarize, told_result
from betanas.analysis.tables import layers_table
from betanas.architecture.decoding import decode
from betanas.database.connect import sqlite_file
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.errors import InputError, KernelError
from betanas.jobs.front import front_of
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialRecord, whole

BEST_NOTED, FAILED_NOTED = 50, 20  # all notes travel with every poll of the dashboard
MARK = "*Written by betanas dashboard; a note that you change is yours and stays.*"
_AUDIT = (
    "steps", "images", "data_wait_seconds", "evaluation_seconds", "startup_seconds",
    "other_seconds", "device", "ranks",
)  # fmt: skip


def prepare_in_background(
    definition: StudyDefinition,
    stored: StoredStudy,
    store: FileSystemArtifactStore,
    warn: Callable[[str], None],
) -> threading.Thread:
    """Writes notes and attaches figures while the dashboard is open already.

    Args:
        definition: The study file.
        stored: Its database.
        store: From ``open_artifacts``.
        warn: Is told what did not work; the dashboard does without it.
    """

    def work() -> None:
        try:
            write_notes(definition, stored)
            attach_figures(definition, stored, store)
        except (SQLAlchemyError, StorageInternalError, OSError) as error:
            warn(f"notes and figures are incomplete: {error}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def write_notes(definition: StudyDefinition, stored: StoredStudy) -> int:
    """Writes a note on the study, on its best trials and on the last that failed.

    Notes that somebody else has written or changed are left alone.

    Returns:
        How many notes were written; 0 where all of them were up to date.
    """
    records, study = stored.records(), stored.study
    study.sampler = RandomSampler()  # a trial's handle asks its sampler for what we never use
    written = int(_save(study, study_note(definition, records)))
    noted = complete_trials(records)[:BEST_NOTED]
    noted += [r for r in records if r.state == "fail"][-FAILED_NOTED:]
    ids = {t.number: t._trial_id for t in study.get_trials(deepcopy=False)}  # noqa: SLF001
    for record in noted:
        trial = optuna.Trial(study, ids[record.number])
        written += _save(trial, trial_note(definition, stored.settings, record))
    return written


def _save(target: optuna.Study | optuna.Trial, body: str) -> bool:
    old = get_note(target)
    if old == body or (old and not old.endswith(MARK)):
        return False
    save_note(target, body)
    return True


def study_note(definition: StudyDefinition, records: Sequence[TrialRecord]) -> str:
    """Where the study stands, as Markdown."""
    summary = summarize(definition.name, records, definition.search.trials)
    best = observed_best(records)
    lines = [
        (
            f"{definition.family} at {definition.resolution} pixels on {definition.dataset.name}, "
            f"{definition.budget.amount:g} {definition.budget.unit} of training a trial."
        ),
        "",
        f"{summary['feasible']} of {summary['target']} trials are complete.",
    ]
    if best is not None and best.value is not None:
        lines[-1] += f" The best is trial {best.number} with {told_result(best)}."
    rows = [
        [phase, kind, str(count)]
        for phase, counts in outcomes_by_phase(records).items()
        for kind, count in counts.items()
    ]
    lines += ["", *_markdown(("phase", "outcome", "trials"), rows), "", MARK]
    return "\n".join(lines)


def trial_note(definition: StudyDefinition, settings: Settings, record: TrialRecord) -> str:
    """What is known of one trial, as Markdown: result, costs, layers, audit."""
    lines = [f"**{record.state}**, phase {_code(record.phase)}"]
    if record.value is not None:
        lines[0] += f": {told_result(record)} on the validation images"
    if record.reason:
        lines += ["", f"reason: {_code(record.reason)} {_code(record.audit.get('message'))}"]
    if record.num_params is not None:
        lines += [
            "",
            (
                f"{short_count(record.num_params)} parameters, {short_count(record.macs or 0)} "
                f"multiply-adds, {(record.activation_bytes or 0) / 2**20:,.0f} MiB of activations; "
                f"fingerprint {_code(record.fingerprint)}"
            ),
        ]
    try:
        family, classes = definition.search_family, len(settings.classes)
        layers = layers_table(decode(family, record.kernel, definition.resolution, classes))
    except KernelError:  # nothing to build
        layers = None
    if layers is not None:
        cells = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in r] for r in layers.rows]
        lines += ["", *_markdown(layers.columns, cells)]
    known = [(key, record.audit[key]) for key in _AUDIT if record.audit.get(key) is not None]
    if known:
        rows = [[key, f"{v:.2f}" if isinstance(v, float) else _code(v)] for key, v in known]
        lines += ["", *_markdown(("audit", ""), rows)]
    lines += [f"\nWarning: {_code(warning)}" for warning in audit_warnings(record)]
    return "\n".join([*lines, "", MARK])


def _code(value: object) -> str:
    """Any text as Markdown that shows it and does nothing else."""
    text = "" if value is None else str(value).replace("`", "'").replace("|", "/")
    return f"`{' '.join(text.split())}`" if text.strip() else ""


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def open_artifacts(url: str, name: str) -> FileSystemArtifactStore:
    """Where a study's artifacts are kept: beside an SQLite database, else below here."""
    file = sqlite_file(url)
    folder = (file.parent if file else Path("storage")).absolute() / name / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def attach_figures(
    definition: StudyDefinition, stored: StoredStudy, store: FileSystemArtifactStore
) -> None:
    """Attaches our figures to the study; those of an earlier call are replaced.

    Args:
        definition: The study file.
        stored: Its database.
        store: From ``open_artifacts``.
    """
    known = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(stored.study)}
    with tempfile.TemporaryDirectory() as temporary:
        for name, draw in _figures(definition, stored).items():
            picture = to_png(draw())
            if name in known:
                store.write(known[name], io.BytesIO(picture))
                continue
            file = Path(temporary) / name
            file.write_bytes(picture)
            upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=stored.study)


def _figures(definition: StudyDefinition, stored: StoredStudy) -> dict[str, Callable[[], Figure]]:
    """The figures that need no model: ready in a second or two."""
    parameters, records = definition.searched, whole(definition, stored.records())
    best, measure = observed_best(records), Measure.of(definition.objective, records)
    found: dict[str, Callable[[], Figure]] = {}
    if best is not None:
        network = decode(
            definition.search_family,
            best.kernel,
            definition.resolution,
            len(stored.settings.classes),
        )
        found["best architecture.png"] = lambda: draw_architecture(network, best.kernel)
    if records:
        found["history.png"] = lambda: draw_history(records, measure)
        found["outcomes.png"] = lambda: draw_outcomes(outcomes_by_phase(records))
        found["parallel coordinates.png"] = lambda: draw_parallel_coordinates(records, parameters)
    if best is not None:
        found["pareto.png"] = lambda: draw_pareto(records, measure)
    front = front_of(stored)
    if front is not None:
        found["front.png"] = lambda: draw_front(front, complete_trials(records), measure)
    if any(history_of(r) for r in complete_trials(records)):
        found["trainings.png"] = lambda: draw_training(records)
    try:
        clustering = cluster_best(records, parameters)
    except InputError:
        return found
    found["dendrogram.png"] = lambda: draw_dendrogram(clustering)
    found["cluster means.png"] = lambda: draw_cluster_means(clustering, parameters, None, measure)
    return found
