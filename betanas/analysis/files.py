"""Files that are there in whole or not at all."""

import os
from pathlib import Path

from betanas.errors import InputError


def make_folder(folder: Path) -> None:
    """Makes the folder of a report; commands do so before they begin to work.

    Raises:
        InputError: If it cannot be made or written.
    """
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        write_whole(folder / "figures" / ".writable", b"").unlink()
    except OSError as error:
        raise InputError(
            f"--output {folder} cannot be written ({error.strerror}); choose another folder"
        ) from None


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file that is there in whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
