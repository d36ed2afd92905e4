"""How long it takes to count one kernel at 16 resolutions, without torch.

python benchmarks/scaling.py
"""

import statistics
import sys
import time

from betanas.analysis.scaling import Rule, Scaling, scaled_costs
from betanas.architecture.families import FAMILIES

RESOLUTIONS = tuple(range(64, 1025, 64))
REPEATS = 51


def main() -> None:
    """A line a family and rule: median milliseconds for all 16."""
    for name, family in FAMILIES.items():
        for rule in Rule:
            if Scaling.refusal(family, rule):
                continue
            wall, work = [], []
            for _ in range(REPEATS):
                began = time.perf_counter(), time.process_time()
                scaled_costs(Scaling(family, family.published, 100, rule), RESOLUTIONS, 100)
                wall.append(1000 * (time.perf_counter() - began[0]))
                work.append(1000 * (time.process_time() - began[1]))
            print(
                f"{name} {rule}: {statistics.median(wall):.1f} ms, "
                f"of the processor {statistics.median(work):.1f}, the first {work[0]:.1f}"
            )
    print("torch was imported" if "torch" in sys.modules else "torch was not imported")


if __name__ == "__main__":
    main()
