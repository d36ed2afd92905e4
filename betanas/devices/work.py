"""What passes between program and device without making either wait.

A GPU works through a queue. Asking it anything at once empties the queue, and it stands idle until
the next step is prepared; so questions join the queue, and answers are read a step later.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Moves a CPU tensor to a device without waiting for what the device still has to do."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class SideQueue:
    """Work that a GPU does beside its main queue; on a CPU it is done at once.

    Args:
        device: Where; what its main queue holds by now is done before anything here begins.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def ask(self, make: Callable[[], tuple[Tensor, ...]]) -> Callable[[], tuple[Tensor, ...]]:
        """Asks for something; the returned function has the main queue wait for it."""
        if self._stream is None:
            made = make()
            return lambda: made
        with torch.cuda.stream(self._stream):
            made = make()
            done = _event(timing=False)
            done.record()

        def take() -> tuple[Tensor, ...]:
            main = torch.cuda.current_stream()
            main.wait_event(done)
            for tensor in made:
                tensor.record_stream(main)  # whose memory is free only when that is done with it
            return made

        return take


class WorkTimer:
    """Adds up the time that marked pieces of work take where they are done.

    Args:
        device: On a GPU the time is its own, and its idling within a piece counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts what is asked for within the context."""
        if self._on_gpu:
            began, ended = _event(timing=True), _event(timing=True)
            began.record()
            yield
            ended.record()
            self._events.append((began, ended))
        else:
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """The sum so far; on a GPU only after a synchronisation."""
        self._seconds += sum(began.elapsed_time(ended) for began, ended in self._events) / 1e3
        self._events.clear()
        return self._seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._seconds = value


class LossWatch:
    """Sees whether the training losses are finite numbers."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def add(self, loss: Tensor) -> None:
        """Looks at the loss of a step that was just asked for."""
        if not loss.is_cuda:
            self._waiting.append((loss, None))
            return
        copied = torch.empty((), pin_memory=True)
        copied.copy_(loss, non_blocking=True)
        event = _event(timing=False)
        event.record()
        self._waiting.append((copied, event))

    def all_finite(self, unfinished: int) -> bool:
        """Whether the steps that are done went well; waits until at most ``unfinished`` are not.

        Args:
            unfinished: 0 waits for all; 1 leaves a GPU a step to work on meanwhile.
        """
        finite = True
        while len(self._waiting) > unfinished:
            loss, event = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            finite = finite and math.isfinite(loss.item())
        return finite


def _event(*, timing: bool) -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=timing)  # type: ignore[no-untyped-call]
