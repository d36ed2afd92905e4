"""The latency of the best trials' networks, measured here and noted on the trials."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from betanas.analysis.clusters import complete_trials
from betanas.architecture.decoding import decode
from betanas.database.annotations import annotate
from betanas.database.stored import StoredStudy
from betanas.devices.find import find_devices
from betanas.errors import InputError, RunError
from betanas.launcher.failures import no_memory
from betanas.models.latency import Latency, device_title, measure_latency
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialRecord, whole

KEYS = ("latency_seconds", "latency_batch", "latency_device")


@dataclass(frozen=True, slots=True)
class Measured:
    """One trial's network and its latency."""

    record: TrialRecord
    latency: Latency


def measure(
    definition: StudyDefinition,
    stored: StoredStudy,
    top: int,
    batch: int,
    device: str,
    tell: Callable[[Measured], None],
) -> tuple[list[Measured], str]:
    """Measures the best trials' networks and notes their latencies on the trials.

    Latencies are for comparing, so that a study has those of one measurement only: what an earlier
    one has noted is replaced.

    Args:
        definition: The study file.
        stored: Its database.
        top: How many of the best trials; equal networks are measured once and all are noted.
        batch: Images of one pass.
        device: ``auto``, ``cpu`` or ``cuda``.
        tell: Is told each trial's as soon as it is measured.

    Returns:
        The trials, best first, and the device's name.

    Raises:
        InputError: If there is nothing to measure, or no such device.
        RunError: If so many images do not fit in memory.
    """
    if top < 1 or batch < 1:
        raise InputError(f"--top and --batch must be >= 1, but got {top} and {batch}")
    best = complete_trials(whole(definition, stored.records()))[:top]
    if not best:
        raise InputError("the study has no complete trial whose network could be measured")
    kind = find_devices(device, 1, claim=False).kind
    family, classes = definition.search_family, len(stored.settings.classes)
    known: dict[str, Latency] = {}
    found = []
    for record in best:
        network = decode(family, record.kernel, definition.resolution, classes)
        if network.fingerprint not in known:
            try:
                known[network.fingerprint] = measure_latency(network, batch, kind)
            except (RuntimeError, MemoryError) as error:
                if not no_memory(error):
                    raise
                raise RunError(
                    f"trial {record.number}: {batch} images must fit in the memory of {kind} with "
                    "what its network makes of them, but do not; give a smaller --batch"
                ) from None
        found.append(Measured(record, known[network.fingerprint]))
        tell(found[-1])
    title = device_title(kind)
    notes = {
        m.record.number: dict(zip(KEYS, (m.latency.seconds, batch, title), strict=True))
        for m in found
    }
    annotate(stored, notes, KEYS)
    return found, title


def to_json(found: list[Measured], batch: int, device: str) -> dict[str, object]:
    """The JSON of ``betanas latency``."""
    rows = [
        {
            "number": m.record.number,
            "value": m.record.value,
            "num_params": m.record.num_params,
            "macs": m.record.macs,
            **asdict(m.latency),
        }
        for m in found
    ]
    return {"batch": batch, "device": device, "rows": rows}
