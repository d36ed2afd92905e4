"""What the searches of benchmarks/real.py begin from."""

import importlib
import tomllib
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from optuna.trial import TrialState

STUDY = 'family = "betamix"\n'


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("real_searches")


@pytest.mark.parametrize("row", ["optimize-warm", "optimize-shuffled"])
def test_a_copy_of_a_search_has_its_values_or_the_same_ones_dealt_out_anew(
    searches: ModuleType, tmp_path: Path, row: str
) -> None:
    source, url = tmp_path / "older.toml", f"sqlite:///{tmp_path / 'older.db'}"
    source.write_text(STUDY)
    study = optuna.create_study(study_name="older", storage=url, direction="maximize")
    study.set_user_attr("setting", "kept")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=20)
    study.tell(study.ask(), state=TrialState.FAIL)
    run = searches.Run(f"betamix:{row}", 1, tmp_path / "new", None, None, None, (source, url))
    file = searches.source_study(run)
    copied = tomllib.loads(file.read_text())
    assert copied["family"] == "betamix"
    assert file.stem == "older"
    copy = optuna.load_study(study_name="older", storage=copied["storage"]["url"])
    assert copy.user_attrs == {"setting": "kept"}
    assert [t.params for t in copy.trials] == [t.params for t in study.trials]
    told, dealt = ([t.value for t in s.trials[:20]] for s in (study, copy))
    assert (told == dealt) == (row == "optimize-warm")
    assert sorted(told) == sorted(dealt)
    assert copy.trials[20].state == TrialState.FAIL
