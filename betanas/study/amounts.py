"""How long a training is, in words: ``15m``, ``240 s``, ``20 epochs``."""

import re

from betanas.study.recipe import Budget, BudgetUnit

_TIMES = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
}  # fmt: skip
_GIGA, _TERA = 1e9, 1e12
_ENDLESS = 1e30  # of any unit: a slip of the hand, or infinite
_COUNTS: dict[str, tuple[BudgetUnit, float]] = {
    "step": ("steps", 1), "steps": ("steps", 1), "epoch": ("epochs", 1), "epochs": ("epochs", 1),
    "image": ("images", 1), "images": ("images", 1),
    "macs": ("macs", 1), "gmacs": ("macs", _GIGA), "tmacs": ("macs", _TERA),
}  # fmt: skip
_AMOUNT = re.compile(r"\s*(\d+(?:_\d+)*(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-z]*)\s*")


def parse_amount(said: str | float, unit: BudgetUnit) -> Budget:
    """Reads how long a training is to be.

    Args:
        said: A number with a unit, ``s``, ``m`` or ``h``, ``steps``, ``epochs``, ``images``,
            ``macs``, ``Gmacs`` or ``Tmacs``; a number alone is one of ``unit``.
        unit: What a number alone counts.

    Raises:
        ValueError: For anything else, beginning with "must be".
    """
    parts = _AMOUNT.fullmatch(str(said).lower())
    named = parts and (parts[2] in _TIMES or parts[2] in _COUNTS or not parts[2])
    number = float(parts[1]) if parts else 0.0
    if parts is None or not named or not 0 < number < _ENDLESS:
        raise no_amount(said)
    seconds = _TIMES.get(parts[2])
    if seconds is not None:
        return Budget(seconds=seconds * number)
    unit, scale = _COUNTS.get(parts[2], (unit, 1))
    if scale > 1:
        number = round(number * scale)  # 2.3 times 1e9 is no whole number
    if unit != "seconds" and number != int(number):
        raise ValueError(f"must be a whole number of {unit}, but got {said!r}")
    return Budget.model_validate({unit: number if unit == "seconds" else int(number)})


def no_amount(said: object) -> ValueError:
    """What is wrong with something that is no amount."""
    return ValueError(
        "must be a time such as 15m, 240s or 1h, or a number of steps, epochs, images or "
        f"macs (Gmacs, Tmacs) such as 20epochs, but got {said!r}"
    )


def longer_budget(said: str | float, than: Budget) -> Budget:
    """Reads how long a training is to be that is longer than others, in their unit.

    Raises:
        ValueError: If it is something else, beginning with "must be".
    """
    found, unit = parse_amount(said, than.unit), than.unit
    if found.unit != unit:
        raise ValueError(
            f"must be in {unit}, as the trials' budget.{unit} = {than.amount:g} is, but got {said}"
        )
    if found.amount <= than.amount:
        raise ValueError(
            f"must be longer than a trial, which has budget.{unit} = {than.amount:g}, "
            f"but got {said}"
        )
    return found


def amount_text(unit: BudgetUnit, amount: float) -> str:
    """An amount as people read it: ``4 min``, ``26.7 s``, ``2,000 images``, ``1.5 Tmacs``."""
    if unit == "macs":
        return f"{amount / _TERA:.3g} Tmacs" if amount >= _TERA else f"{amount / _GIGA:.3g} Gmacs"
    if unit != "seconds":
        return f"{amount:,.0f} {unit if amount != 1 else unit.removesuffix('s')}"
    if amount < 120:
        return f"{amount:.3g} s"
    return f"{amount / 60:.3g} min" if amount < 7200 else f"{amount / 3600:.3g} h"
