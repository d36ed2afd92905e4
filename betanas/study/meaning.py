"""What keys mean to a study that began when their defaults were others, or they were not yet."""

from typing import Any

from betanas.study.recipe import LatencyConfig, Recipe
from betanas.study.sections import (
    ACCURACY,
    LimitsConfig,
    ObjectiveConfig,
    OneShotConfig,
    SearchConfig,
)

# Defaults that have changed since, by section and by the last schema of a study's settings that had
# them: a study keeps the meaning that it began with.
_FORMER_DEFAULTS: dict[str, dict[int, dict[str, Any]]] = {
    "recipe": {1: {"gradient_compression": "fp16", "evaluate_every_epochs": 1, "evaluations": 0}},
    "search": {2: {"sampler": "gp"}},
}

# The last schema of studies whose memory limit took all networks to compute in the same numbers:
# those of the study's side and of the file's batch size, float32 on every CPU.
NUMBERS_OF_STUDY = 3


def former_defaults(section: str, schema: int) -> dict[str, Any]:
    """A section's defaults of a schema that are others today."""
    changed, found = _FORMER_DEFAULTS[section], dict[str, Any]()
    for last in sorted(changed, reverse=True):
        if schema <= last:
            found |= changed[last]
    return found


def default_meaning(schema: int) -> dict[str, Any]:
    """What a study means by the keys that it does not know, since it began before they were.

    So a new key's default must stand for what was done without it. Where a default changes, the
    schema of ``Settings`` does, and what it was before stays in ``_FORMER_DEFAULTS``.

    Args:
        schema: Of the study's settings.
    """
    return flatten(
        {
            "recipe": Recipe().otherwise(former_defaults("recipe", schema)).model_dump(mode="json"),
            "limits": LimitsConfig().model_dump(mode="json"),
            "search": SearchConfig()
            .otherwise(former_defaults("search", schema))
            .model_dump(mode="json"),
            "oneshot": OneShotConfig().model_dump(mode="json"),
            "objective": ObjectiveConfig().model_dump(mode="json"),
            "objectives": [ACCURACY],
            "latency": LatencyConfig().model_dump(mode="json"),
        }
    )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
