"""What can go wrong, by whose hand: the user's input, or the run itself."""

import re

_PASSWORDS = (
    re.compile(r"(://[^:/@\s]*:)[^\s]*(?=@)"),
    re.compile(r"([?&]password=)[^&\s]*"),
    re.compile(r"(\b[\w.%+-]+:)[^:/@\s]+(?=@)"),  # a URL without its scheme
)


def without_password(text: str) -> str:
    """A text in which no database URL shows its password."""
    for pattern in _PASSWORDS:
        text = pattern.sub(r"\1***", text)
    return text


class BetaNASError(Exception):
    """An error a user can act on: its text names place, rule, value and cure.

    Attributes:
        exit_code: What a command that ends with this error returns to the shell.
    """

    exit_code = 1


class InputError(BetaNASError):
    """A wrong call or file; nothing was started and nothing is lost."""

    exit_code = 2


class StudyFileError(InputError):
    """A study file that cannot be read, or that breaks a rule."""


class KernelError(InputError):
    """A kernel that does not fit its family: a name, a number or a range."""


class DataError(InputError):
    """A data set that is missing, incomplete or unreadable."""


class StorageError(InputError):
    """A database that cannot be reached, or that holds something else."""


class NoStudyError(StorageError):
    """A database without the study that was asked for."""


class DeviceError(InputError):
    """A device that is not there, or more ranks than devices."""


class RunError(BetaNASError):
    """A search that cannot go on, though it was called rightly."""
