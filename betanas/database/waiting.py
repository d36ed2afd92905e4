"""Waiting for what other workers are about to record."""

import time
from collections.abc import Collection

from betanas.database.stored import ClaimedTrial, StoredStudy

PROPOSAL_SECONDS = 30.0


def wait_for_earlier_kernels(
    stored: StoredStudy, claimed: ClaimedTrial, names: Collection[str]
) -> None:
    """Waits until the trials begun before this one have a kernel, but no longer than a proposal.

    So two workers never propose the same: each sees what those before it have.

    Args:
        stored: The study.
        claimed: Whose kernel is to be proposed.
        names: All parameters of a kernel.
    """
    deadline = time.monotonic() + PROPOSAL_SECONDS
    while stored.earlier_lack_kernel(claimed, names) and time.monotonic() < deadline:
        time.sleep(0.1)
