"""An own family, from its definition to the report of a search: python own_family.py [TRIALS]."""

import sys
from pathlib import Path

import betanas

STUDY = """
family = "pyramid"
resolution = 16
[dataset]
name = "digits"
validation = 0.25
[recipe]
preset = "fast"
batch_size = 64
flip = false
[budget]
seconds = 1
[limits]
num_params = 100_000
memory_gib = 1
[search]
sobol_trials = 4
min_feasible = 3
"""


class Pyramid(betanas.Family):
    """Stages of fused or inverted blocks, each half the side of the one before, and wider."""

    name = "pyramid"
    parameters = (
        betanas.Integer("stages", 1, 3, meaning="halvings of the side"),
        betanas.Integer("width", 4, 16, meaning="channels of the first stage", log=True),
        betanas.Real("growth", 1.0, 2.0, meaning="width of a stage over that before it"),
        betanas.Choice("block", ("FMBC", "MBC"), meaning="of all layers but the first"),
    )

    def decode(
        self, parameters: betanas.Kernel, resolution: int, num_classes: int
    ) -> betanas.Architecture:
        """Two layers a stage, of which the first halves the side."""
        if resolution < 2 ** (parameters["stages"] + 1):
            raise betanas.TrivialKernelError(f"nothing is left of {resolution} pixels")
        layers: list[betanas.Layer] = []
        side, channels = resolution, 3
        for stage in range(parameters["stages"]):
            width = int(parameters["width"] * parameters["growth"] ** stage)
            for stride in (2, 1):
                block = betanas.Block(parameters["block"]) if layers else betanas.Block.CNA
                layers.append(
                    betanas.Layer(
                        block=block,
                        in_channels=channels,
                        out_channels=width,
                        stride=stride,
                        in_resolution=side,
                        out_resolution=side // stride,
                        expanded_channels=2 * channels if block != "CNA" else 0,
                        squeeze_channels=max(1, channels // 4) if block == "MBC" else 0,
                        stochastic_depth=0.0,
                        expansion_ratio=2.0,
                        se_ratio=8.0,
                    )
                )
                side, channels = side // stride, width
        return betanas.Architecture(resolution, num_classes, 2 * channels, tuple(layers))


if __name__ == "__main__":
    betanas.register_family(Pyramid)
    Path("pyramid.toml").write_text(STUDY)
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    study = betanas.optimize("pyramid.toml", overrides={"search.trials": trials})
    best = study.best()
    assert best is not None, "no trial is complete"
    print(f"trial {best.number}: {best.value:.1%} with {dict(best.parameters)}")
    print(*study.report("report")[:1])
