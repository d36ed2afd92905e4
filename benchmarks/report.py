"""What analysis and report cost: processor seconds and bytes, of studies that never trained.

    python benchmarks/report.py                 # a report of 400 trials, the analysis of 4,000
    python benchmarks/report.py --profile 400   # where the time goes

The studies are those of tests/generated.py: real kernels and costs under a made-up accuracy. Time
is the process's own (``time.process_time``, all threads), so that other work on the machine counts
little; one BLAS thread.
"""

import argparse
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from generated import generated_records, settings_of

from betanas.jobs.report import analyse_records, write_report
from betanas.study.loading import load_definition


def measure(trials: int, *, write: bool) -> dict[str, float]:
    """Analyses a study of so many trials, and writes its report if asked."""
    definition = load_definition("betanet2")
    settings = settings_of(definition)
    records = generated_records(definition, settings, trials)
    began = time.process_time()
    findings = analyse_records(definition, settings, records)
    analysed = time.process_time()
    told = {"trials": trials, "analysis_seconds": round(analysed - began, 2)}
    if write:
        with tempfile.TemporaryDirectory() as folder:
            page, *others = write_report(findings, Path(folder))
            told["report_seconds"] = round(time.process_time() - began, 2)
            told["page_megabytes"] = round(page.stat().st_size / 1e6, 2)
            told["all_megabytes"] = round(sum(f.stat().st_size for f in (page, *others)) / 1e6, 2)
    return told


def main() -> None:
    """Prints one line of JSON a study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=int, default=400, metavar="TRIALS")
    parser.add_argument("--analysis", type=int, default=4000, metavar="TRIALS")
    parser.add_argument("--profile", type=int, metavar="TRIALS")
    given = parser.parse_args()
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(measure, given.profile, write=True)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        return
    if given.report:
        print(json.dumps(measure(given.report, write=True)), flush=True)
    if given.analysis:
        print(json.dumps(measure(given.analysis, write=False)), flush=True)


if __name__ == "__main__":
    main()
