"""Files that are there in whole or not at all, whatever is killed when: the one way to write them.

A file is written under another name in the same folder, flushed to the disk, renamed, and the
folder flushed, so that not even a power cut leaves half of one.
"""

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from betanas.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk, or a user's share of it
TEMPORARY = ".tmp"  # how the name of a file ends that is being written; killed writers leave some


@contextmanager
def whole_file(path: Path, keep_as: Path | None = None) -> Iterator[IO[bytes]]:
    """Opens a file for writing that takes its name when the block ends well, and else vanishes.

    Args:
        path: The file; its folder exists.
        keep_as: Another name for what ``path`` has been until now.

    Raises:
        OSError: If it cannot be written, also where a library has made another error of a full
            disk.
    """
    handle, name = tempfile.mkstemp(TEMPORARY, f"{path.name}.", path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if hasattr(os, "fchmod"):  # temporary files are private by default
                os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        if keep_as is not None and path.exists():
            path.replace(keep_as)
        temporary.replace(path)
    except Exception as error:
        full = _full_behind(error)
        if full is None or full is error:
            raise
        raise full from None
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that there was no room for a file."""
    return isinstance(error, OSError) and error.errno in FULL


def _full_behind(error: BaseException | None) -> BaseException | None:
    """The full disk that an error began with, of which ``torch.save`` tells in other words."""
    while error is not None and not is_full(error):
        error = error.__cause__ or error.__context__
    return error


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file of text or bytes."""
    with whole_file(path) as file:
        if isinstance(content, str):
            # A folder's name may be no text, and a page shows it as well as it can.
            content = content.encode(errors="backslashreplace")
        file.write(content)
    return path


def write_new(path: Path, content: bytes) -> None:
    """Writes a file unless another process has just done so: what that has written stays."""
    own = write_whole(path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}"), content)
    try:
        path.hardlink_to(own)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


def finite(data: Any) -> Any:
    """Plain data as JSON has it, where a loss that ran away is no number: None in its place."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data


def write_json(path: Path, data: object) -> None:
    """Writes plain data as a JSON file."""
    write_whole(path, json.dumps(data))


def read_json(path: Path) -> Any:
    """Reads what ``write_json`` wrote; None where there is nothing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def sync(path: Path) -> None:
    """Has the disk keep what a file or a folder holds by now."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, inside: str = "") -> None:
    """Makes the folder of ``--output``; commands do so before they begin to work.

    Args:
        folder: The folder.
        inside: A folder in it, which is to be made, too.

    Raises:
        InputError: If it cannot be made or written.
    """
    place = folder / inside
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / ".writable", b"").unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"--output {folder} cannot be written ({error.strerror}); choose another folder"
        ) from None
