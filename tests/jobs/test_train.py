"""``betanas train`` and ``betanas benchmark``: real trainings on the digits."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ask_json, run
from generated import generated_records, settings_of, write_database
from PIL import Image

from betanas.architecture.betanet3 import BETANET3
from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.reference import ReferenceModel, network_from_json
from betanas.cli.model_commands import _time_budget
from betanas.data import load_images
from betanas.errors import InputError, RunError
from betanas.files import read_json
from betanas.jobs.costs import kept_values
from betanas.jobs.load import load_study
from betanas.jobs.model_names import TrainOptions, find_model, plan_alike, plan_training
from betanas.jobs.train import Machine, train
from betanas.models.network import build_model, build_network, count_macs
from betanas.models.trained import read_trained
from betanas.study.loading import load_definition
from betanas.study.recipe import DatasetConfig
from betanas.training.testing import top_accuracies
from betanas.trial import TrialTask

WISH = TrainOptions(dataset="digits", resolution=16, epochs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("train")
    plan = plan_training("betanet2", WISH)
    return folder, train(
        plan, folder / "model", Machine("cpu", 1, folder / "cache"), lambda _: None
    )


@pytest.mark.slow
def test_top1_is_what_the_file_reaches_on_the_test_images(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    _folder, told = trained
    model = read_trained(Path(told["checkpoint"]))
    test = load_images(DatasetConfig(name="digits"), "test", 16)
    assert model.classes == test.classes
    pixels = torch.from_numpy(test.images.copy()).permute(0, 3, 1, 2) / 255
    small = torch.nn.functional.interpolate(
        pixels, 16, mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = (torch.tensor(c)[:, None, None] for c in (model.mean, model.std))
    with torch.inference_mode():
        logits = model.build()((small - mean) / std)
    right = (logits.argmax(1).numpy() == test.labels).mean()
    assert told["part"] == "test"
    assert told["top1"] == pytest.approx(right, abs=1.5 / len(test.labels))
    assert told["top1"] <= told["top5"] <= 1
    assert told["num_params"] == sum(p.numel() for p in model.build().parameters())
    assert dict(model.facts) == {k: v for k, v in told.items() if k != "checkpoint"}


@pytest.mark.slow
def test_the_same_call_trains_once(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, told = trained
    plan = plan_training("betanet2", WISH)
    news: list[dict[str, Any]] = []
    arguments = (folder / "model", Machine("cpu", 1, folder / "cache"), news.append)
    assert train(plan, *arguments) == told
    Path(told["checkpoint"]).unlink()  # as if it had been killed before the file was written
    assert train(plan, *arguments) == told
    assert news == []
    before = Path(told["checkpoint"]).read_bytes()
    hopeless = plan.recipe.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(RunError, match="could not be trained"):
        train(replace(plan, recipe=hopeless), *arguments)
    assert Path(told["checkpoint"]).read_bytes() == before
    other = train(replace(plan, seed=1), *arguments)
    assert news
    assert other["seed"] == 1
    assert other["top1"] != told["top1"]


@pytest.mark.slow
def test_other_images_in_the_folder_are_another_training(tmp_path: Path) -> None:
    """Class folders by other names: a training that is over does not answer for them."""
    photos = tmp_path / "photos" / "train"
    for name, level in (("dark", 60), ("light", 190)):
        (photos / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.full((16, 16, 3), level + i, dtype=np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{i}.png")
    overrides = ("budget.steps=1", "recipe.batch_size=10")
    wish = TrainOptions(data=photos.parent, resolution=16, overrides=overrides)
    arguments = (tmp_path / "model", Machine("cpu", 1, tmp_path / "cache"), lambda _: None)
    first = train(plan_training("plain", wish), *arguments)
    assert train(plan_training("plain", wish), *arguments) == first
    (photos / "dark").rename(photos / "black")
    found = train(plan_training("plain", wish), *arguments)
    assert read_trained(Path(found["checkpoint"])).classes == ("black", "light")


@pytest.mark.slow
def test_weights_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    """At this rate the accuracy falls again, so the last weights would be others."""
    overrides = ("recipe.schedule=constant", "recipe.norm_batches=0", "recipe.weight_average=0.9")
    wish = replace(WISH, epochs=6, overrides=(*overrides, "recipe.learning_rate=0.03"))
    plan = plan_training("betanet2", wish)
    seen: list[float] = []

    def tell(news: dict[str, Any]) -> None:
        if "accuracy" in news:
            seen.append(news["accuracy"])

    told = train(plan, tmp_path, Machine("cpu", 1, tmp_path / "cache"), tell)
    assert told["validation_top1"] == max(seen)
    assert told["best_epoch"] == 1 + seen.index(max(seen))
    best = torch.load(tmp_path / "training" / "best.pt", weights_only=True)["weights"]
    model = read_trained(tmp_path / "model.pt")
    assert all(torch.equal(best[name], tensor) for name, tensor in model.weights.items())


@pytest.mark.slow
def test_without_a_test_part_the_accuracy_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        place = tmp_path / "photos" / "train" / name
        place.mkdir(parents=True)
        for i in range(30):
            pixels = np.clip(rng.normal(level, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    where = ("--data", str(tmp_path / "photos"), "--resolution", "16", "--epochs", "2")
    more = ("--set", "recipe.batch_size=10", "--output", "model", "--json")
    out, _err = run(tmp_path, "train", "--model", "betanet2", *where, *more)
    told = json.loads(out)
    assert told["part"] == "validation"
    assert told["top1"] == pytest.approx(told["validation_top1"])
    assert told["top5"] == 1
    assert read_trained(tmp_path / told["checkpoint"]).classes == ("dark", "light")


@pytest.mark.slow
def test_a_benchmark_trains_all_alike_and_goes_on(tmp_path: Path) -> None:
    models = "demo:best@16,betanet3,mobilenet_v3_small@32"
    where = ("--dataset", "digits", "--resolution", "16", "--epochs", "1", "--output", "b")
    ask = ("benchmark", "--models", models, *where, "--json")
    rows = json.loads(run(tmp_path, *ask)[0])["rows"]
    assert [row["resolution"] for row in rows] == [16, 16, 32]
    assert rows[0]["model"].startswith("demo trial ")
    tasks = [TrialTask.from_json(read_json(p)) for p in tmp_path.glob("b/*/training/task.json")]
    assert len(tasks) == 3
    assert len({(t.recipe.model_dump_json(), t.dataset, t.budget, t.seed) for t in tasks}) == 1
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("b/*/model.pt")}
    for row in rows:
        assert 0 < row["latency_ms_1"] <= row["latency_p95_ms_1"]
        assert row["latency_ms_64"] > 0
        assert row["activation_bytes"] > 0
        assert max(accuracy for _, accuracy in row["histories"][0]) == row["validation_top1"]
    table = list(csv.DictReader((tmp_path / "b" / "benchmark.csv").open()))
    assert [float(line["top1"]) for line in table] == [row["top1"] for row in rows]
    assert (tmp_path / "b" / "benchmark.md").read_text().count("\n") == 2 + len(rows)
    assert all("betanet3" in (tmp_path / "b" / f"{n}.svg").read_text() for n in ("costs", "time"))
    again = json.loads(run(tmp_path, *ask)[0])["rows"]
    assert again == rows == read_json(tmp_path / "b" / "benchmark.json")["rows"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("b/*/model.pt")} == before


def test_other_networks_are_built_and_counted() -> None:
    ours = decode(FAMILIES["betanet2"], FAMILIES["betanet2"].published, 32, 10)
    assert count_macs(build_model(ours), 32) == count(ours, 1).macs
    theirs = ReferenceModel("resnet18", 64, 7)
    assert network_from_json(theirs.to_json()) == theirs
    assert network_from_json(ours.to_json()) == ours
    assert build_network(theirs)(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    # torchvision's own figure for ResNet-18 at 224 pixels and 1,000 classes: 1.81 G
    assert count_macs(build_network(ReferenceModel("resnet18", 224, 1000)), 224) / 1e9 == (
        pytest.approx(1.814, abs=0.002)
    )


@pytest.mark.parametrize(
    ("name", "num_params"),
    [
        ("resnet50", 23_712_932),
        ("mobilenet_v2", 2_351_972),
        ("efficientnet_b0", 4_135_648),
        ("efficientnet_v2_s", 20_305_588),
    ],
)
def test_counts_of_the_published_comparison(name: str, num_params: int) -> None:
    with torch.device("meta"):
        model = build_network(ReferenceModel(name, 224, 100))
    assert sum(p.numel() for p in model.parameters()) == num_params


@pytest.mark.parametrize("name", ["betanet2", "plain"])
def test_memory_of_others_is_measured_as_ours_is_counted(name: str) -> None:
    family = FAMILIES["betanet2" if name == "betanet2" else "betamix"]
    network = decode(family, family.members[name], 32, 10)
    kept = kept_values(build_model(network), torch.zeros(2, 3, 32, 32))
    assert 4 * kept == pytest.approx(count(network, 2).activation_bytes, rel=0.05)


@pytest.mark.parametrize(
    ("time", "budget"), [("15m", "budget.seconds=900.0"), ("20epochs", "budget.epochs=20")]
)
def test_time_of_a_benchmark(time: str, budget: str) -> None:
    assert _time_budget(time, None) == budget
    with pytest.raises(InputError, match="either --time or --epochs"):
        _time_budget(time, 3)
    with pytest.raises(InputError, match="--time must be a time such as 15m"):
        _time_budget("soon", None)


def test_every_image_counts_once_in_top_accuracies() -> None:
    logits = torch.eye(6)[[0, 1, 2, 3, 4]] + torch.arange(6) / 100
    labels = torch.tensor([0, 1, 5, 0, 4])
    batches = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    assert top_accuracies(torch.nn.Identity(), batches) == (3 / 5, 4 / 5)


def test_overrides_name_the_study_that_has_begun_with_them(tmp_path: Path) -> None:
    rate = "recipe.learning_rate={low = 1e-4, high = 1e-2, log = true}"
    begun = ("family=betanet3", "parameters.K=[2, 3]", "limits.macs=3_000_000", rate)
    definition = load_definition("digits", begun)
    settings = settings_of(definition, tuple("0123456789"))
    records = generated_records(definition, settings, 30)
    write_database(tmp_path / "own.db", definition, settings, records)
    wanted = (*begun, f'storage.url="sqlite:///{tmp_path}/own.db"')
    opened = load_study("digits", overrides=wanted)
    wish = TrainOptions(epochs=2, overrides=wanted)
    for which, chosen in ("best", opened.best()), ("recommended", opened.recommended()):
        assert chosen is not None
        plan = plan_training(f"digits:{which}", wish)
        assert plan.network == chosen.architecture
        assert plan.recipe.learning_rate == chosen.parameters["recipe.learning_rate"]
        shown = (
            "describe",
            "--model",
            f"digits:{which}",
            *(w for o in wanted for w in ("--set", o)),
        )
        assert ask_json(tmp_path, *shown)["fingerprint"] == chosen.architecture.fingerprint
    plan = plan_training("digits:published", wish)
    assert plan.network == decode(BETANET3, BETANET3.published, 16, 10)
    assert plan.recipe.learning_rate == definition.recipe.learning_rate
    # The same kernels are trained with a range that nobody has searched.
    more = replace(wish, overrides=(*wanted, "recipe.weight_decay={low = 0.01, high = 0.1}"))
    assert plan_training("digits:best", more).recipe.weight_decay == 0.01


def test_names_of_models() -> None:
    model = find_model("demo:3@48", 16, 10, None)
    assert model.title == "demo trial 3"
    assert model.network.resolution == 48
    first = plan_training("betanet2@32", WISH)
    assert first.network.resolution == 32
    second = plan_alike("mobilenet_v2", first, 16, None)
    assert second.network == ReferenceModel("mobilenet_v2", 16, 10)
    assert (second.recipe, second.dataset, second.budget) == (
        first.recipe,
        first.dataset,
        first.budget,
    )
    plateau = replace(WISH, overrides=("recipe.preset=published",))
    assert plan_training("betanet2", plateau).recipe.stop_patience_epochs == 15


@pytest.mark.parametrize(
    ("overrides", "every", "shares"),
    [((), 1, 0), (("recipe.evaluate_every_epochs=3",), 3, 0), (("recipe.evaluations=5",), 1, 5)],
)
def test_a_training_to_convergence_is_evaluated_once_an_epoch(
    overrides: tuple[str, ...], every: int, shares: int
) -> None:
    for model in ("betanet2", "demo:3"):
        preset = ("recipe.preset=fast",)  # the study's own has evaluations at two shares
        recipe = plan_training(model, replace(WISH, overrides=preset + overrides)).recipe
        assert (recipe.evaluate_every_epochs, recipe.evaluations) == (every, shares)


@pytest.mark.parametrize(
    ("name", "wish", "told"),
    [
        ("mobilenet", WISH, "did you mean mobilenet_v2"),
        ("resnet18+3x4", WISH, r"did you mean resnet18\+3x3"),
        ("demo:worst", WISH, "best, recommended, final, front:PLACE or a number below 97"),
        ("demo:999", WISH, "best, recommended, final, front:PLACE or a number below 97"),
        ("nowhere:best", WISH, "there is no study 'nowhere'"),
        ("betanet2", TrainOptions(), "--dataset must be given"),
        ("betanet2", replace(WISH, dataset="mnist"), "the training: dataset.name must be"),
        ("betanet2", replace(WISH, epochs=0), "the training: budget.epochs must be > 0"),
    ],
)
def test_wrong_wishes(
    name: str, wish: TrainOptions, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        plan_training(name, wish)


def test_a_foreign_file_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="betanas train writes such a file"):
        read_trained(tmp_path / "none.pt")
    for content in ({"weights": 1}, [1, 2]):
        torch.save(content, tmp_path / "foreign.pt")
        with pytest.raises(InputError, match="is no model of betanas train"):
            read_trained(tmp_path / "foreign.pt")
    (tmp_path / "text.pt").write_text("no zip")
    with pytest.raises(InputError, match="is no model of betanas train"):
        read_trained(tmp_path / "text.pt")
    torch.save({"betanas": 99}, tmp_path / "new.pt")
    with pytest.raises(InputError, match="newer BetaNAS"):
        read_trained(tmp_path / "new.pt")
