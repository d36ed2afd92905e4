"""Where the trials of studies leave their files."""

from pathlib import Path

import pytest

from betanas.database.folders import cache_folder, trials_folder

SERVER = "postgresql://me:secret@one:5432/"


def test_a_studys_own_database_has_its_folder_beside_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/digits.db"
    assert trials_folder(url, "digits") == tmp_path / "digits"
    assert trials_folder(url, "digits:finals") == tmp_path / "digits:finals"
    assert cache_folder(trials_folder(url, "digits")) == tmp_path / "cache"


@pytest.mark.parametrize("name", ["digits", "digits:finals"])
def test_two_databases_never_share_a_folder(tmp_path: Path, name: str) -> None:
    urls = [
        f"sqlite:///{tmp_path}/{file}" for file in ("digits.db", "seed0.db", "seed1.db", "seed1")
    ]
    urls += [f"{SERVER}a", f"{SERVER}b", f"{SERVER}a".replace("one", "two")]
    folders = {trials_folder(url, name) for url in urls}
    assert len(folders) == len(urls)
    assert len({cache_folder(folder) for folder in folders}) == 2  # images are shared


def test_a_new_password_changes_no_folder() -> None:
    assert trials_folder(f"{SERVER}a", "digits") == trials_folder(
        f"{SERVER}a".replace("secret", "another"), "digits"
    )
    assert "secret" not in str(trials_folder(f"{SERVER}a", "digits"))
