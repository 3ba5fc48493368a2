# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a training tells while it runs: a bar, a log, and a curve."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

LOG = 'log.jsonl'
CURVE = 'curve.png'


class Progress:
    """
    The progress of a run, of which earlier calls may have done some epochs.

    A bar with the loss, the newest mIoU and the time left for the whole run; a line of JSON an
    epoch in ``log.jsonl``; and, where Matplotlib is installed, both over the epochs in
    ``curve.png``.

    :param out: Folder of the log and the curve.
    :param epochs: Number of epochs of the run.
    :param steps: Steps an epoch.
    :param done: Epochs that a checkpoint holds; what the log says of later ones is forgotten, as
        they are done again.
    """

    def __init__(self, out: Path, epochs: int, steps: int, done: int) -> None:
        self._out = out
        self._records = _read(out / LOG, done)
        self._losses: list[float] = []
        self._started = time.monotonic()
        self._bar = tqdm(
            total=epochs * steps, initial=done * steps, unit='step', disable=None,
            desc=f'epoch {done + 1}/{epochs}')
        self._epochs = epochs
        self._shown = {
            'val_miou': record['val_miou'] for record in self._records if 'val_miou' in record}

    def step(self, loss: float) -> None:
        """Count a step."""
        self._losses.append(loss)
        self._bar.set_postfix(loss=f'{np.mean(self._losses[-50:]):.3f}', **self._shown)
        self._bar.update()

    def epoch(self, epoch: int) -> None:
        """
        Write an epoch to the log.

        :param epoch: Number of epochs that are done.
        """
        record = {
            'epoch': epoch, 'loss': round(float(np.mean(self._losses)), 4),
            'seconds': round(time.monotonic() - self._started, 1)}
        self._records.append(record)
        self._bar.write(json.dumps(record))
        self._bar.set_description(f'epoch {min(epoch + 1, self._epochs)}/{self._epochs}')
        self._write_log()
        if epoch == self._epochs:
            _draw(self._out / CURVE, self._records)
        self._losses = []
        self._started = time.monotonic()

    def lacks_miou(self, epoch: int) -> bool:
        """Return whether this is the newest epoch of the log, and not measured yet."""
        newest = self._records[-1] if self._records else {}
        return newest.get('epoch') == epoch and 'val_miou' not in newest

    def measured(self, val_miou: float) -> None:
        """Write the mIoU (0..1) of the newest epoch to the log."""
        record = self._records[-1]
        record['val_miou'] = self._shown['val_miou'] = round(val_miou, 4)
        self._bar.write(json.dumps({key: record[key] for key in ('epoch', 'val_miou')}))
        self._write_log()
        _draw(self._out / CURVE, self._records)
        self._started = time.monotonic()

    def _write_log(self) -> None:
        _write(self._out / LOG, ''.join(json.dumps(line) + '\n' for line in self._records))

    def close(self) -> None:
        """Finish the bar."""
        self._bar.close()


def _read(log: Path, done: int) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    records = []
    for line in log.read_text(errors='replace').splitlines():
        try:
            record = json.loads(line)
            if record['epoch'] <= done and record['loss'] is not None:
                records.append(record)
        # Whatever else is in there, it is no epoch.
        except (ValueError, TypeError, KeyError):
            continue
    return records


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix('.part')
    temporary.write_text(text)
    temporary.replace(path)


def _draw(path: Path, records: list[dict[str, Any]]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    losses = figure.subplots()
    losses.plot(
        [record['epoch'] for record in records], [record['loss'] for record in records],
        color='tab:blue')
    losses.set(xlabel='epoch')
    losses.set_ylabel('training loss', color='tab:blue')
    losses.grid(alpha=0.3)
    measured = [record for record in records if 'val_miou' in record]
    if measured:
        scores = losses.twinx()
        scores.plot(
            [record['epoch'] for record in measured],
            [100 * record['val_miou'] for record in measured], 'o-', color='tab:orange')
        scores.set_ylabel('mIoU of the averaged weights (%)', color='tab:orange')
    temporary = path.with_suffix('.part')
    figure.savefig(temporary, format='png', dpi=110)
    temporary.replace(path)
