"""BetaNAS's search in a plain Optuna study with a plain torch loop: python own_loop.py [TRIALS].

The images are scikit-learn's handwritten digits; everything but the search is this file's own. The
same command goes on with the same study: it is in own_loop.db.
"""

import sys

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

import betanas

TRIALS = int(sys.argv[1]) if len(sys.argv) > 1 else 12
EPOCHS, BATCH = 2, 64

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).div(16)  # 1797 x 8 x 8, in [0, 1]
images = images[:, None].expand(-1, 3, -1, -1).repeat_interleave(2, 2).repeat_interleave(2, 3)
labels = torch.tensor(digits.target)
train, held_out = slice(0, 1400), slice(1400, None)

space = betanas.space(
    "betanet2",
    resolution=16,
    num_classes=10,
    limits={"num_params": 100_000},
    batch_size=BATCH,
    parameters={"k": [1, 4], "K": [1, 4]},
)


def objective(trial: optuna.Trial) -> float:
    """Accuracy on the images that were held out."""
    architecture = space.suggest(trial)  # raises TrialPruned for what is infeasible
    learning_rate = trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True)
    torch.manual_seed(trial.number)
    model = betanas.build_model(architecture)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for _ in range(EPOCHS):
        for batch in torch.randperm(train.stop).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        right = model(images[held_out]).argmax(dim=1) == labels[held_out]
    return float(right.float().mean())


if __name__ == "__main__":
    study = optuna.create_study(
        study_name="own_loop",
        storage="sqlite:///own_loop.db",
        load_if_exists=True,
        direction="maximize",
        sampler=betanas.Sampler(space, seed=0, sobol_trials=6, min_feasible=4),
    )
    study.optimize(objective, n_trials=TRIALS)
    best = study.best_trial
    print(f"trial {best.number}: {best.value:.1%} with {best.user_attrs['num_params']:,} weights")
    print(space.architecture(best.params).fingerprint)
