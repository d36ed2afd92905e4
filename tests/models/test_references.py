"""torchvision's networks: with a stem for small pictures, and from published weights."""

import json
from pathlib import Path

import pytest
import torch
from command import run
from torch import Tensor
from torchvision import models

from betanas.architecture.reference import ReferenceModel
from betanas.errors import InputError
from betanas.jobs.compare import begun_with_weights, compare
from betanas.jobs.costs import counts_of
from betanas.jobs.model_names import find_model, plan_training
from betanas.jobs.train import Machine, TrainOptions, folder_name, from_weights
from betanas.models.network import build_network
from betanas.models.references import load_pretrained
from betanas.models.trained import read_trained

SMALL = "shufflenet_v2_x0_5"


def weights_file(name: str, home: Path) -> Path:
    """Where torch's cache has a network's published weights."""
    url = models.get_model_weights(name).DEFAULT.url
    path = home / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_weights(name: str, home: Path, old_names: bool = False) -> dict[str, Tensor]:
    """Puts weights there as if they had been downloaded."""
    torch.manual_seed(1)
    weights = models.get_model(name, weights=None).state_dict()
    told = {}
    for key, value in weights.items():
        key = key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if old_names else key  # noqa: PLW2901
        if not key.endswith("num_batches_tracked"):  # older files lack them
            told[key] = value
    torch.save(told, weights_file(name, home))
    return weights


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder, empty; nothing can be downloaded."""
    found = tmp_path / "home"
    monkeypatch.setenv("TORCH_HOME", str(found))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return found


# -- small pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "num_params"),
    [
        ("resnet18", 11_220_132),  # those of the networks themselves less 7,680
        ("resnet50", 23_705_252),
        ("wide_resnet50_2", 67_031_460),
        ("mobilenet_v2", 2_351_972),
        ("mobilenet_v3_small", 1_620_356),
        ("mobilenet_v3_large", 4_330_132),
        ("shufflenet_v2_x1_0", 1_356_104),
        ("efficientnet_b0", 4_135_648),
        ("efficientnet_v2_s", 20_305_588),
    ],
)
def test_weights_with_a_stem_for_small_pictures(name: str, num_params: int) -> None:
    network = find_model(f"{name}+3x3@32", 224, 100, None).network
    assert network == ReferenceModel(f"{name}+3x3", 32, 100)
    assert isinstance(network, ReferenceModel)
    assert counts_of(network)[0] == num_params


@pytest.mark.parametrize(
    ("name", "side", "spared"),
    [
        ("mobilenet_v2", 64, 0),
        ("mobilenet_v3_small", 64, 0),
        ("efficientnet_b0", 64, 0),
        # Their pooling is gone, too; what is before it worked on a larger side.
        ("shufflenet_v2_x0_5", 128, 24 * 27 * (64**2 - 32**2)),
        ("resnet18", 128, 64 * (147 * 64**2 - 27 * 32**2)),
        ("densenet121", 128, 64 * (147 * 64**2 - 27 * 32**2)),
    ],
)
def test_a_small_picture_enters_the_stages_at_its_own_side(
    name: str, side: int, spared: int
) -> None:
    _, plain = counts_of(ReferenceModel(name, side, 10))
    _, small = counts_of(ReferenceModel(f"{name}+3x3", 32, 10))
    assert small == plain - spared


@pytest.mark.parametrize("name", ["vgg11", "convnext_tiny"])
def test_what_has_no_such_stem_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}\+3x3 must begin with a convolution of stride 2"):
        find_model(f"{name}+3x3", 32, 10, None)
    with pytest.raises(InputError, match="did you mean mobilenet_v2"):
        find_model("mobilenet+3x3", 32, 10, None)


# -- published weights ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head"),
    [(SMALL, "fc."), ("squeezenet1_1", "classifier.1."), ("mnasnet0_5", "classifier.1.")],
)
def test_all_weights_but_the_heads_are_taken(name: str, head: str, home: Path) -> None:
    theirs = write_weights(name, home)
    network = ReferenceModel(name, 32, 7)
    model = build_network(network)
    fresh = {n: w.clone() for n, w in model.state_dict().items()}
    load_pretrained(model, network)
    for n, weight in model.state_dict().items():
        expected = fresh[n] if n.startswith(head) else theirs[n]
        assert torch.equal(weight, expected), n
    assert len({n for n in fresh if n.startswith(head)}) == 2


def test_densenets_old_names_are_understood(home: Path) -> None:
    theirs = write_weights("densenet121", home, old_names=True)
    network = ReferenceModel("densenet121", 32, 7)
    model = build_network(network)
    load_pretrained(model, network)
    name = "features.denseblock1.denselayer2.conv2.weight"
    assert torch.equal(model.state_dict()[name], theirs[name])


def test_a_stem_of_the_same_size_keeps_its_weights(home: Path) -> None:
    theirs = write_weights(SMALL, home)
    plan = from_weights(plan_training(f"{SMALL}+3x3@32", TrainOptions(dataset="digits")))
    assert (plan.title, folder_name(plan)) == (
        f"{SMALL}+3x3 pretrained",
        f"{SMALL}+3x3-pretrained-32-0",
    )
    network = ReferenceModel(f"{SMALL}+3x3", 32, 7)
    model = build_network(network)
    load_pretrained(model, network)
    assert torch.equal(model.state_dict()["conv1.0.weight"], theirs["conv1.0.weight"])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (SMALL, b"nonsense", ""),
        (SMALL, {"conv1.0.weight": torch.zeros(24, 3, 3, 3)}, "it has no "),
        ("resnet18+3x3", None, "size mismatch for conv1.weight"),
    ],
)
def test_weights_that_do_not_fit_are_told_in_one_line(
    name: str, content: object, why: str, home: Path
) -> None:
    path = weights_file(name.removesuffix("+3x3"), home)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shapes = models.resnet18().state_dict()
        flat = {n: torch.zeros((), dtype=w.dtype).expand(w.shape) for n, w in shapes.items()}
        torch.save(content or flat, path)
    network = ReferenceModel(name, 32, 7)
    with pytest.raises(InputError) as caught:
        load_pretrained(build_network(network), network)
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith(f"--pretrained: {name} must have its weights IMAGENET1K_V1, but {path}")
    assert "gave none that fit (" in told
    assert why in told


@pytest.mark.parametrize("name", ["betanet2@32", "timm:resnet10t@32"])
def test_others_have_no_such_weights(name: str) -> None:
    with pytest.raises(InputError, match="--pretrained starts torchvision's classifiers from"):
        from_weights(plan_training(name, TrainOptions(dataset="digits")))


def test_a_benchmark_says_which_begin_from_scratch(home: Path) -> None:
    told: list[str] = []
    names = ("betanet2@32", SMALL, "mnasnet0_5")
    plans = [plan_training(name, TrainOptions(dataset="digits")) for name in names]
    write_weights("mnasnet0_5", home)
    found = [begun_with_weights(plan, told.append) for plan in plans]
    assert found[:2] == plans[:2]
    assert (found[2].title, found[2].pretrained) == ("mnasnet0_5 pretrained", True)
    (line,) = told
    assert line.startswith(f"{SMALL} is trained from scratch: --pretrained: {SMALL} must have its")
    with pytest.raises(InputError, match="--models has none of them: betanet2@32; leave it out"):
        compare(
            ["betanet2@32"],
            TrainOptions(dataset="digits"),
            1,
            home,
            Machine("cpu", 1, home),
            told.append,
            print,
            pretrained=True,
        )


@pytest.mark.slow
def test_a_training_begins_with_the_weights_or_says_why_not(tmp_path: Path, home: Path) -> None:
    where = ("--dataset", "digits", "--resolution", "32", "--set", "budget.steps=6")
    one = ("train", "--model", SMALL, *where, "--pretrained", "--output", "m", "--json")
    _, told = run(tmp_path, *one, code=2)
    (line,) = [line for line in told.splitlines() if "--pretrained" in line]
    assert f"{SMALL} must have its weights IMAGENET1K_V1" in line
    assert "or leave --pretrained out" in line
    assert not (tmp_path / "m").exists()

    theirs = write_weights(SMALL, home)
    out, _ = run(tmp_path, *one, "--set", "recipe.learning_rate=1e-12")
    assert json.loads(out)["pretrained"] is True
    ours = read_trained(tmp_path / "m" / "model.pt").weights
    assert ours["fc.weight"].shape == (10, 1024)
    for name in ("conv1.0.weight", "conv5.0.weight"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-8)
