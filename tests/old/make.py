"""Makes the fixture of the version that is installed: ``python tests/old/make.py 0.1.0``."""

import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from command import TINY, run, write_study

_NOBODY = "host|-|1|1"  # as leases name a worker


def main(version: str) -> None:
    """Runs a tiny study, and keeps its database without a word of the machine that it ran on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_study(folder, text=TINY)
        run(folder, "optimize", "--study", "tiny.toml", "--device", "cpu")
        told = run(folder, "trials", "--study", "tiny.toml", "--json")[0]
        kept = f"{Path(__file__).parent}/{version}"
        database = sqlite3.connect(folder / "storage" / "tiny.db")
        with database:
            change = "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'worker'"
            database.execute(change, (f'"{_NOBODY}"',))
            database.execute("UPDATE betanas_leases SET owner = ?", (_NOBODY,))
        Path(f"{kept}.db").unlink(missing_ok=True)
        database.execute("VACUUM INTO ?", (f"{kept}.db",))
        Path(f"{kept}.toml").write_text(TINY)
        Path(f"{kept}.json").write_text(told.replace(_worker(told), _NOBODY))


def _worker(told: str) -> str:
    return told.partition('"worker": "')[2].partition('"')[0]


if __name__ == "__main__":
    main(sys.argv[1])
