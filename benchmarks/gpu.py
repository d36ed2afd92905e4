"""All that a GPU must show, in one command of at most eight minutes (docs/gpu.md).

    python benchmarks/gpu.py                        on a machine with a GPU; needs no network
    python benchmarks/gpu.py --device cpu --quick   that the script itself works, on any machine

A phase is a process with a limit of its own, and prints a JSON line a row; a table comes last.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path


def run_phase(name: str, device: str, quick: bool) -> None:
    """One phase, in this process: a JSON line a row."""
    import torch
    from gpu_phases import PHASES

    place = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    for row in PHASES[name][0](place, quick):
        print(json.dumps({"phase": name, **row}), flush=True)


def ask_phase(name: str, limit: float, device: str, quick: bool) -> list[dict[str, object]]:
    """One phase, in a process of its own; what it had printed when it failed is kept."""
    command = [sys.executable, __file__, "--phase", name, "--device", device]
    began = time.monotonic()
    process = subprocess.Popen(
        command + ["--quick"] * quick,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
        wrong = "" if process.returncode == 0 else f"exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        wrong = f"longer than {limit:.0f} s"
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if wrong:
        told = [line for line in err.splitlines() if line.strip()][-12:]
        rows.append({"phase": name, "what": wrong, "ok": False, "stderr": told})
    rows.append({"phase": name, "what": "phase", "took_s": round(time.monotonic() - began, 1)})
    return rows


def main() -> int:
    """Runs the phases; exit code 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--phases", default="", help="only these, separated by commas")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="also write the JSON lines to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if arguments.phase:
        run_phase(arguments.phase, arguments.device, arguments.quick)
        return 0
    from gpu_phases import PHASES

    chosen = [p for p in arguments.phases.split(",") if p] or list(PHASES)
    if unknown := set(chosen) - set(PHASES):
        parser.error(f"--phases must be among {', '.join(PHASES)}, but got {', '.join(unknown)}")
    rows = []
    for name in chosen:
        limit = PHASES[name][1] * (3 if arguments.quick else 1)  # of a CPU with other work, too
        found = ask_phase(name, limit, arguments.device, arguments.quick)
        rows.extend(found)
        for row in found:
            print(json.dumps(row), flush=True)
        if arguments.output:
            arguments.output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checked = [row for row in rows if "ok" in row]
    wrong = [row for row in checked if not row["ok"]]
    print(f"\n{len(checked) - len(wrong)} of {len(checked)} checks passed")
    for row in wrong:
        print("failed:", json.dumps(row))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
