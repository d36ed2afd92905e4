"""What is waited for: a database that may come back, and nothing else."""

import sqlite3
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, PendingRollbackError

from betanas.database.patience import patient


def test_a_session_that_lost_its_connection_is_asked_again() -> None:
    # As Optuna raises it when the server restarts between two statements of one session.
    calls = []

    @patient
    def ask() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise StorageInternalError("commit") from PendingRollbackError("reconnect")
        return "answer"

    assert ask() == "answer"
    assert len(calls) == 2


def test_a_missing_table_is_not_waited_for(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    engine = create_engine(f"sqlite:///{tmp_path}/empty.db")

    @patient
    def ask() -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT * FROM trials"))

    with pytest.raises(OperationalError, match="no such table"):
        ask()
