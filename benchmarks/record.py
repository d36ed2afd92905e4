"""Real trainings, recorded: what a benchmark of searches can look up in place of training.

    python benchmarks/record.py --data FOLDER            # goes on where it was stopped
    python benchmarks/record.py --data FOLDER --shard 0 2    # one of two such processes

CIFAR-10's pictures at R=16, family BetaMix, the limits of ``real.py``, recipe ``short``. A training
has five seconds of its process's own time, so that other work on the machine makes it last longer,
never learn less; it is looked at after every tenth of them, on 1,500 validation images. Parts:

- ``sobol``: 1,000 feasible points of a Sobol sequence.
- ``betanas``, ``gpsampler``: five searches of 50 trainings each; Optuna's is told 0 for what is
  infeasible. Their first ten are the first ten of ``sobol``, trained again.
- ``around``: 500 neighbours of the twenty best of the parts above.
- ``again``: 150 of all of these with another seed, every tenth of the best 500 and every fifteenth
  of the others: what two trainings of one kernel differ by.

A row of ``data/trainings/betamix-16.csv`` is one training: part, number, seed, the kernel, its
costs, images a second, accuracies at the ten tenths. Rows are appended as they come; the next part
is begun where one is full.
"""

import argparse
import csv
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from real_searches import CLASSES, LIMITS, OPENING, feasible_trial, make_sampler

import betanas
from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import find_family
from betanas.architecture.layers import Architecture
from betanas.devices.ranks import Ranks
from betanas.images.placement import TrainingImages
from betanas.parameters import Choice
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.study.recipe import Budget
from betanas.training.trainer import Diverged, Training
from betanas.trial import TrialTask

optuna.logging.set_verbosity(optuna.logging.WARNING)

FAMILY = find_family("betamix")
RESOLUTION, SECONDS, SHARES, VALIDATION = 16, 5.0, 10, 0.03
SEARCHES, TRIALS = 5, 50
NUMBERS = {"sobol": 1000, "betanas": 250, "gpsampler": 250, "around": 500, "again": 150}
PEERS = ("betanas", "gpsampler")
BEST, TOP, EVERY_TOP, EVERY_OTHER = 20, 500, 10, 15
STEP = 0.1  # of a neighbour, as a share of each range: one standard deviation
CHANGED = 0.1  # of a neighbour's choices and whole numbers
FACTS = ["part", "number", "seed"]
COSTS = ["num_params", "macs", "images_per_second"]
ACCURACIES = [f"accuracy_{100 * (i + 1) // SHARES}" for i in range(SHARES)]
COLUMNS = [*FACTS, *FAMILY.names, *COSTS, *ACCURACIES]
STUDY = f"""
family = "{FAMILY.name}"
resolution = {RESOLUTION}
[dataset]
name = "imagefolder"
root = "."
validation = {VALIDATION}
[recipe]
preset = "short"
evaluations = {SHARES}
[budget]
seconds = {SECONDS}
"""
Kernel = dict[str, Any]


@dataclass
class Recorder:
    """Trains, and appends rows.

    Attributes:
        file: The table.
        definition: Images and recipe.
        folder: Where trainings and decoded images lie.
        shard: Which of several such processes this is, from 0, and how many there are.
    """

    file: Path
    definition: StudyDefinition
    folder: Path
    shard: tuple[int, int]

    @cached_property
    def space(self) -> Any:
        """What is searched."""
        return betanas.space(FAMILY.name, RESOLUTION, CLASSES, LIMITS)

    @cached_property
    def pictures(self) -> TrainingImages:
        """Decoded once."""
        return TrainingImages.load(self.definition.dataset, RESOLUTION, self.folder / "cache")

    def rows(self) -> list[dict[str, str]]:
        """All that is known, of other processes too."""
        if not self.file.exists():
            return []
        with self.file.open(newline="") as file:
            return list(csv.DictReader(file))

    def kernels(self, part: str) -> Iterator[tuple[int, int, Kernel]]:
        """Number, seed and kernel of a part that train on their own: all but searches."""
        if part == "sobol":
            yield from ((i, 0, kernel) for i, kernel in enumerate(self._sobol(NUMBERS[part])))
            return
        rows = [r for r in self.rows() if r["part"] != "again"]
        rows.sort(key=lambda r: (-best(r), r["part"], int(r["number"])))
        if part == "around":
            rows = [r for r in rows if r["part"] != "around"][:BEST]
            for number in range(NUMBERS[part]):
                near = self._neighbour(as_kernel(rows[number % BEST]), number)
                yield number, 0, near
            return
        chosen = [*rows[:TOP:EVERY_TOP], *rows[TOP::EVERY_OTHER]]
        for number, row in enumerate(chosen[: NUMBERS[part]]):
            yield number, 1, as_kernel(row)

    def _sobol(self, number: int) -> Iterator[Kernel]:
        """Feasible points of the sequence with which our sampler begins."""
        sampler = betanas.Sampler(self.space, 0, sobol_trials=100 * number, min_feasible=number)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(number):
            found = feasible_trial(study, self.space)
            assert found is not None
            yield dict(found[0].params)
            study.tell(found[0], state=optuna.trial.TrialState.FAIL)

    def _neighbour(self, kernel: Kernel, number: int) -> Kernel:
        """A feasible one, each number moved, one of ten choices made anew."""
        drawn, space = np.random.default_rng(number), self.space.rules.space
        start = space.vector(kernel)[None, :]
        while True:
            steps = STEP * drawn.standard_normal(start.shape)
            for i in space.discrete:
                steps[:, i] *= drawn.random() < CHANGED
            near = space.moved(start, steps, drawn)
            if self.space.rules.check(near).feasible[0]:
                return dict(space.kernel(near[0]))

    def train(self, part: str, number: int, seed: int, kernel: Kernel) -> float:
        """Trains a kernel, and appends its row; the last accuracy."""
        architecture = decode(FAMILY, kernel, RESOLUTION, CLASSES)
        costs = count(architecture, self.definition.recipe.batch_size)
        accuracies, pace = self._training(architecture, 1000 * seed + number)
        told = [f"{a:.4f}" for a in accuracies]
        values = [f"{v:.6g}" if isinstance(v, float) else v for v in map(kernel.get, FAMILY.names)]
        row = [part, number, seed, *values, costs.num_params, costs.macs, f"{pace:.1f}", *told]
        new = not self.file.exists()
        with self.file.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            writer.writerow(row)
        print(part, number, seed, told[-1], f"{pace:.0f} images/s", flush=True)
        return accuracies[-1]

    def _training(self, architecture: Architecture, seed: int) -> tuple[list[float], float]:
        task = TrialTask(
            number=0, seed=seed, architecture=architecture, dataset=self.definition.dataset,
            recipe=self.definition.recipe, budget=Budget(seconds=SECONDS), nproc_per_node=1,
            device="cpu", folder=str(self.folder / f"training-{self.shard[0]}"),
            cache=str(self.folder / "cache"), checkpoint_seconds=1e9,
        )  # fmt: skip
        Path(task.folder).mkdir(parents=True, exist_ok=True)
        try:
            result = Training(
                task, self.pictures, Ranks(0, 1, torch.device("cpu")), time.time()
            ).run()
        except Diverged:
            return [0.0] * SHARES, 0.0
        accuracies = [e.accuracy for e in result.history]
        # One step may take more than a tenth of the time: then some looks are one.
        shares = [e.train_seconds / SECONDS for e in result.history]
        at = np.searchsorted(shares, (np.arange(SHARES) + 1) / SHARES - 1e-9)
        at = np.minimum(at, len(accuracies) - 1)
        return [accuracies[i] for i in at], result.images_per_second

    def search(self, part: str, number: int) -> None:
        """One whole search, which begins anew with what is already in the table."""
        known = {int(r["number"]): r for r in self.rows() if r["part"] == part}
        sampler = make_sampler(part, self.space, number)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        opening = list(itertools.islice(self._sobol(OPENING), OPENING))
        for trained in range(TRIALS):
            row = known.get(number * TRIALS + trained)
            if trained < OPENING or row is not None:
                kernel = opening[trained] if row is None else as_kernel(row)
                study.enqueue_trial(kernel)
            found = feasible_trial(study, self.space, tells_0=part == "gpsampler")
            assert found is not None, "no feasible proposal"
            kernel = dict(found[0].params)
            done = best(row) if row else self.train(part, number * TRIALS + trained, 0, kernel)
            study.tell(found[0], done)

    def record(self, part: str, most: float) -> bool:
        """Trains what is left of a part for this process.

        Returns:
            Whether the part is full, by all processes.
        """
        index, of = self.shard
        if part in PEERS:
            for number in range(index, SEARCHES, of):
                self.search(part, number)
        else:
            has = {int(r["number"]) for r in self.rows() if r["part"] == part}
            for number, seed, kernel in self.kernels(part):
                if number % of == index and number not in has:
                    if time.time() > most:
                        return False
                    self.train(part, number, seed, kernel)
        full = sum(r["part"] == part for r in self.rows())
        return full >= NUMBERS[part]


def best(row: dict[str, str]) -> float:
    """A training's value: the best of its accuracies."""
    return max(float(row[name]) for name in ACCURACIES)


def as_kernel(row: dict[str, str]) -> Kernel:
    """The parameters of a row, as the family has them."""
    given = {p.name: row[p.name] for p in FAMILY.parameters}
    return {
        p.name: given[p.name] if isinstance(p, Choice) else p.value(float(given[p.name]))
        for p in FAMILY.parameters
    }


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, help="a folder of pictures, train/CLASS/*")
    parser.add_argument("--parts", nargs="+", choices=NUMBERS, default=list(NUMBERS))
    parser.add_argument("--shard", nargs=2, type=int, default=(0, 1), metavar=("I", "N"))
    parser.add_argument("--minutes", type=float, default=1e9, help="no training begins after them")
    parser.add_argument("--folder", type=Path, default=Path("storage/record-benchmark"))
    table = Path(__file__).parent / "data" / "trainings" / "betamix-16.csv"
    parser.add_argument("--output", type=Path, default=table)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # a second is one of this process's own
    asked.folder.mkdir(parents=True, exist_ok=True)
    study = asked.folder / "study.toml"
    study.write_text(STUDY)
    definition = load_definition(str(study), (), asked.data)
    recorder = Recorder(asked.output, definition, asked.folder, tuple(asked.shard))
    until = time.time() + 60 * asked.minutes
    for part in asked.parts:
        if not recorder.record(part, until):
            print(f"{part} is not full yet: run the other shards, then this again", flush=True)
            return


if __name__ == "__main__":
    main()
