# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the pages of a report and of a comparison have in common."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Iterator

import cv2
import jinja2
import numpy as np

from lmii_ros.evaluation.result_folder import ResultError
from lmii_ros.evaluation.result_folder import Results

PICTURE_WIDTH = 480
"""Pictures are reduced to this width, in pixels: twice that which they have on a desktop."""


@dataclass(frozen=True)
class Verdict:
    """
    What to know first: one line, how good it is, and what was wrong.

    :param level: ``good``, ``warn`` or ``bad``.
    """

    level: str
    text: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A frame of the strip; `images` holds what each shows and its data URI."""

    title: str
    score: str
    images: tuple[tuple[str, str], ...]


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this package; all text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('lmii_ros.evaluation'), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters['percent'] = percent
    return environment.get_template(template).render(**values)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share of 0..1 for people; a dash where there is none."""
    return '–' if value is None or np.isnan(value) else f'{100 * value:.{digits}f} %'


def color(rgb: tuple[int, int, int]) -> str:
    """Return a colour for CSS."""
    return '#' + bytes(rgb).hex()


def operating_point(found: Results) -> str:
    """Return in a line what labelled the frames."""
    point = found.metrics['operating_point']
    parts = [point.get('weights'), point.get('engine'), point.get('precision')]
    if point.get('input_height'):
        parts.append(f'input height {point["input_height"]}')
    return ' · '.join(str(part) for part in parts if part)


def flat(values: dict[str, Any], prefix: str = '') -> Iterator[tuple[str, str]]:
    """Yield names and values of nested dictionaries as text."""
    for key, value in values.items():
        name = f'{prefix}{key}'.replace('_', ' ')
        if isinstance(value, dict):
            yield from flat(value, f'{name} ')
        elif value not in (None, '', []):
            yield name, ', '.join(map(str, value)) if isinstance(value, list) else str(value)


def data_uri(path: Path) -> str:
    """
    Return a picture, at most :data:`PICTURE_WIDTH` wide, for the page to hold itself.

    :raises ResultError: If it cannot be read.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ResultError(f'{path}: no such picture, or not a readable one')
    photo = path.suffix.lower() in ('.jpg', '.jpeg')
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH:
        image = cv2.resize(
            image, (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width))),
            # Colours of classes must not mix.
            interpolation=cv2.INTER_AREA if photo else cv2.INTER_NEAREST)
    suffix, kind = ('.jpg', 'jpeg') if photo else ('.png', 'png')
    _, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 85] if photo else [])
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def latency_percentiles(found: Results) -> dict[str, float]:
    """Return percentiles in milliseconds: of the live latency, else of the network alone."""
    live = found.frames.latency_ms[np.isfinite(found.frames.latency_ms)]
    if len(live):
        return {f'p{number}': float(np.percentile(live, number)) for number in (50, 90, 99)}
    offline = found.run.get('latency_ms') or {}
    return {
        name: offline[name] for name in ('p50', 'p90', 'p99') if offline.get(name) is not None}
