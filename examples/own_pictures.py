"""Your own pictures to an exported model: python own_pictures.py FOLDER [SECONDS [TRIALS]].

FOLDER/train/CLASS/*.jpg, any sizes; FOLDER/test/CLASS/*.jpg if there is a test part. Without a
folder, scikit-learn's handwritten digits are written as pictures first. Then give a trial a minute
instead of one second, and the search 50 trials. Needs: pip install 'betanas[export]'
"""

import sys
from pathlib import Path

import betanas


def main(photos: Path, seconds: float, trials: int) -> None:
    """From pictures to ``exported/model.onnx``."""
    study = betanas.optimize(
        "pictures", data=photos, overrides={"budget.seconds": seconds}, trials=trials
    )
    best = study.best()
    assert best is not None, "no trial is complete; run it again for more"
    print(
        f"trial {best.number} reached {best.value:.1%}; with {len(best.architecture.layers)} layers"
    )
    model = best.train(epochs=3)
    print(f"{model.facts['top1']:.1%} of the {model.facts['part']} images")
    pictures = sorted(photos.glob("train/*/*"))[::40]
    for picture, prediction in zip(pictures, model.predict(pictures), strict=True):
        print(f"{picture}: {prediction}")
    print(*model.export("onnx", folder="exported").files)


def draw_digits(photos: Path) -> Path:
    """Writes 300 handwritten digits, 30 of each, as ``photos/train/DIGIT/NUMBER.png``."""
    from PIL import Image  # noqa: PLC0415 - for this substitute only
    from sklearn.datasets import load_digits  # noqa: PLC0415

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:300], digits.target, strict=False)):
        file = photos / "train" / str(label) / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).save(file)
    return photos


if __name__ == "__main__":
    folder, seconds, trials = [*sys.argv[1:], *["", "1", "3"][len(sys.argv) - 1 :]]
    main(Path(folder) if folder else draw_digits(Path("photos")), float(seconds), int(trials))
