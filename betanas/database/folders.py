"""Where trials leave their files."""

from pathlib import Path

from betanas.database.connect import sqlite_file


def trials_folder(url: str, name: str) -> Path:
    """Where the trials of a study leave their files: beside an SQLite database, else below here."""
    file = sqlite_file(url)
    return (file.parent if file else Path("storage")).absolute() / name


def cache_folder(folder: Path) -> Path:
    """Where decoded images are kept, for all studies that share a folder."""
    return folder.parent / "cache"
