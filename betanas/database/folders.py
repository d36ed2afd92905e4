"""Where trials leave their files."""

import hashlib
from pathlib import Path

from betanas.database.connect import parse_url, sqlite_file


def trials_folder(url: str, name: str) -> Path:
    """Where the trials of a study leave their files: beside an SQLite database, else below here.

    Studies of one name in two databases have a folder each: that of ``NAME.db`` is ``NAME``, that
    of ``seed1.db`` beside it ``NAME@seed1.db``, that of a server's ``storage/NAME@`` and a digest
    of where it is.

    Args:
        url: The database's.
        name: The study's, or with ``:`` behind it that of what belongs to it.
    """
    file = sqlite_file(url)
    if file is None:
        parsed = parse_url(url)
        place = f"{parsed.get_backend_name()}://{parsed.host}:{parsed.port}/{parsed.database}"
        digest = hashlib.sha256(place.encode()).hexdigest()[:8]
        return Path("storage").absolute() / f"{name}@{digest}"
    alone = file.name == f"{name.partition(':')[0]}.db"
    return file.parent.absolute() / (name if alone else f"{name}@{file.name}")


def cache_folder(folder: Path) -> Path:
    """Where decoded images are kept, for all studies that share a folder."""
    return folder.parent / "cache"
