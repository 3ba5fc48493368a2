# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the node counts, and its /diagnostics message (REP 107)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections import deque
from dataclasses import dataclass
from typing import Callable
from typing import Mapping
from typing import Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_msgs.msg import KeyValue

WINDOW = 300
"""Frames over which latencies are taken."""

INACTIVE = 'inactive'
"""Message of a node that does not expect frames."""
RECEIVED, LABELLED = 'frames received', 'frames labelled'
DROPPED = 'frames dropped: '
"""Keys of counts; the last one is followed by the reason."""

NOT_FAULTS = ('superseded', 'over_target', 'no_subscriber', 'deactivated')
"""Reasons for which dropping a frame is as it should be."""


class FrameStatistics:
    """
    Counts of frames received, labelled and dropped by reason, rates and latencies.

    Rates and ages are of the steady clock, so they hold under simulated time too. All methods may
    be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._labelled = 0
        self._dropped: Counter[str] = Counter()
        self._newest_stamp = 0
        self._last_received = time.monotonic()
        self._unanswered_since: float | None = None
        self._reported = (time.monotonic(), 0, 0, Counter())
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._steps: deque[Mapping[str, float]] = deque(maxlen=WINDOW)

    def activated(self) -> None:
        """Expect frames from now on."""
        with self._lock:
            self._last_received = time.monotonic()
            self._unanswered_since = None

    def received(self, stamp_ns: int | None = None) -> None:
        """
        Count a frame that came in; latencies start anew where stamps jump back.

        :param stamp_ns: None where it cannot be read.
        """
        with self._lock:
            self._received += 1
            self._last_received = time.monotonic()
            if self._unanswered_since is None:
                self._unanswered_since = self._last_received
            if stamp_ns is not None:
                if stamp_ns < self._newest_stamp:
                    self._latencies.clear()
                self._newest_stamp = stamp_ns

    def dropped(self, reason: str) -> None:
        """Count a frame that is not labelled."""
        with self._lock:
            self._dropped[reason] += 1
            # Of a frame over the target none is expected, but it may be of those before.
            if reason == 'no_subscriber' or (
                    reason == 'over_target' and self._unanswered_since == self._last_received):
                self._unanswered_since = None

    def labelled(self, latency_s: float | None, steps_s: Mapping[str, float]) -> None:
        """
        Count a frame whose outputs were published.

        :param latency_s: Time since its stamp, None where the stamp tells nothing.
        :param steps_s: Time that each step took since it came in, the same steps for all frames.
        """
        with self._lock:
            self._labelled += 1
            self._unanswered_since = None
            self._steps.append(steps_s)
            if latency_s is not None:
                self._latencies.append(latency_s)

    def report(
        self,
        name: str,
        facts: Mapping[str, object],
        *,
        active: bool,
        stale_after: float,
        paused: str = '',
        warning: str = '',
        why_silent: Callable[[], str] = str,
    ) -> DiagnosticStatus:
        """
        Return the status since the last report.

        :param name: Name of the status.
        :param facts: Further values to show, such as the operating point.
        :param active: Whether frames are expected at all.
        :param stale_after: Seconds without a frame after which the status is STALE, or with frames
            but without labels of any, after which it is ERROR.
        :param paused: Why nothing is labelled for now, as is to be; empty for nothing.
        :param warning: What else is not as it should be, empty for nothing.
        :param why_silent: Tells why no frames come, empty for nothing known.
        """
        with self._lock:
            now = time.monotonic()
            then, received, labelled, dropped = self._reported
            self._reported = (now, self._received, self._labelled, self._dropped.copy())
            period = max(now - then, 1e-9)
            recent = self._dropped - dropped
            values = {
                **facts,
                RECEIVED: self._received,
                LABELLED: self._labelled,
                **{DROPPED + key: count for key, count in self._dropped.items()},
                'input rate (Hz)': f'{(self._received - received) / period:.1f}',
                'output rate (Hz)': f'{(self._labelled - labelled) / period:.1f}',
                **_percentiles('latency', self._latencies),
                **_percentiles('processing', [sum(steps.values()) for steps in self._steps]),
                **self._median_steps(),
            }
            age = now - self._last_received
            if paused:
                self._unanswered_since = None
            unanswered = now - (self._unanswered_since or now)
        faults = {key: count for key, count in recent.items() if key not in NOT_FAULTS}
        drops = DROPPED + ', '.join(f'{key} {count}' for key, count in sorted(faults.items()))
        level, message = DiagnosticStatus.OK, 'labelling'
        if not active:
            message = INACTIVE
        elif 'non_finite_output' in faults:
            level, message = DiagnosticStatus.ERROR, 'the network gives values that are not finite'
        elif age > stale_after:
            why = why_silent()
            level = DiagnosticStatus.STALE
            message = f'no frames for {age:.1f} s' + (f': {why}' if why else '')
        elif paused:
            level, message = DiagnosticStatus.WARN, paused
        elif unanswered > stale_after:
            level = DiagnosticStatus.ERROR
            message = f'frames come, but no labels for {unanswered:.1f} s'
            message += f'; {drops}' if faults else ''
        elif faults:
            level, message = DiagnosticStatus.WARN, drops
        elif warning:
            level, message = DiagnosticStatus.WARN, warning
        elif recent['no_subscriber'] and labelled == self._labelled:
            message = 'nobody subscribes, so nothing is labelled'
        return DiagnosticStatus(
            level=level, name=name, message=message, hardware_id=str(facts.get('device', '')),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])

    def _median_steps(self) -> dict[str, str]:
        names = self._steps[-1] if self._steps else ()
        return {
            f'{name} p50 (ms)': f'{1000 * np.median([steps[name] for steps in self._steps]):.2f}'
            for name in names}


@dataclass(frozen=True)
class FrameCounts:
    """What a node told of the frames that came between two of its diagnostics."""

    received: int
    labelled: int
    dropped: Counter[str]
    """By reason."""

    @property
    def are_complete(self) -> bool:
        """Whether what became of each frame that came is told."""
        return self.received == self.labelled + self.dropped.total()

    @classmethod
    def between(cls, before: Mapping[str, str], after: Mapping[str, str]) -> FrameCounts:
        """Return the difference of the values of two diagnostics, of the first perhaps none."""
        def since(key: str) -> int:
            return int(after.get(key, 0)) - int(before.get(key, 0))

        dropped = Counter({
            key.removeprefix(DROPPED): since(key) for key in after if key.startswith(DROPPED)})
        return cls(since(RECEIVED), since(LABELLED), +dropped)


def status_name(node: str, camera: str = '') -> str:
    """
    Return the name of the status of a camera.

    :param node: The node's name with its namespace.
    :param camera: Empty for the only one.
    """
    return f'{node}: segmentation {camera}'.rstrip()


def status_of(message: DiagnosticArray, name: str) -> tuple[str, dict[str, str]] | None:
    """Return message and values of the status of a name, None if it is not among these."""
    for status in message.status:
        if status.name == name:
            return status.message, {pair.key: pair.value for pair in status.values}
    return None


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, str]:
    if not seconds:
        return {}
    p50, p99 = np.percentile(seconds, (50, 99))
    return {f'{name} p50 (ms)': f'{1000 * p50:.1f}', f'{name} p99 (ms)': f'{1000 * p99:.1f}'}
