# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""``lmii evaluate``: accuracy."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from lmii_ros.cli import arguments

if TYPE_CHECKING:
    from lmii_ros.segmenter import Segmenter


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of ``lmii``."""
    evaluate = commands.add_parser('evaluate', help='measure accuracy')
    subjects = evaluate.add_subparsers(dest='subject', required=True)
    dataset = subjects.add_parser('dataset', help='on a data set with labels')
    dataset.add_argument('data', type=Path, help='folder of the data set')
    dataset.add_argument('--split', default='val', help='(%(default)s)')
    dataset.add_argument('--kind', default='auto', help=arguments.KIND_HELP)
    arguments.add_operating_point(dataset)
    dataset.add_argument('--json', type=Path, help='file for the same as JSON')
    dataset.add_argument(
        '--out', type=Path, help='folder for pictures: confusion matrix, ten worst images')
    # Not auto: the figure of a weight file is to be the same on every machine.
    dataset.set_defaults(run=_evaluate_dataset, precision='fp32')

    bag = subjects.add_parser('bag', help='on a rosbag, every frame of it')
    bag.add_argument('bag', type=Path, help='rosbag2 folder, .mcap, .db3, or ROS 1 .bag file')
    arguments.add_bag_topics(bag)
    bag.add_argument('--out', type=Path, required=True, help='folder for the results')
    arguments.add_annotate(bag)
    arguments.add_operating_point(bag)
    bag.set_defaults(run=_evaluate_bag)

    report = subjects.add_parser('report', help='make the report of an evaluation of a bag anew')
    report.add_argument('results', type=Path, help='folder that `lmii evaluate bag` has written')
    report.set_defaults(run=_evaluate_report)
    compare = subjects.add_parser(
        'compare', help='two evaluations of a bag: what changed, and is it more than chance?')
    compare.add_argument('before', type=Path, help='folder of the results of A')
    compare.add_argument('after', type=Path, help='folder of the results of B')
    compare.add_argument('--out', type=Path, help='HTML file for the same with plots and pictures')
    compare.add_argument(
        '--block', type=int, default=0,
        help='consecutive frames that the bootstrap draws together (cube root of all)')
    compare.add_argument(
        '--fail-on-regression', action='store_true',
        help='exit with 1 if a score is significantly worse in B')
    compare.set_defaults(run=_evaluate_compare)

    bags = subjects.add_parser('bags', help='on all rosbags below a folder, added up')
    bags.add_argument('folder', type=Path, help='each bag below it is evaluated')
    arguments.add_bag_topics(bags)
    bags.add_argument(
        '--out', type=Path, required=True,
        help='folder for the results; bags that are done there are not done again')
    arguments.add_annotate(bags)
    bags.add_argument(
        '--on', choices=('local', 'ray'), default='local',
        help='processes of this machine, or a Ray cluster (%(default)s)')
    bags.add_argument(
        '--workers', type=int, default=1,
        help='bags at the same time on a machine, which share its cores (%(default)s)')
    arguments.add_operating_point(bags)
    bags.set_defaults(run=_evaluate_bags)

    live = subjects.add_parser(
        'live', help='of the node over ROS 2, a rosbag played to it: what a vehicle would get')
    live.add_argument('bag', type=Path, help='rosbag2 folder, or .mcap or .db3 file')
    arguments.add_bag_topics(live)
    live.add_argument(
        '--rate', type=float, default=1.0, help='speed, 1 for that of the recording (%(default)s)')
    live.add_argument('--out', type=Path, required=True, help='folder for the results')
    arguments.add_operating_point(live)
    live.set_defaults(run=_evaluate_live)


def _evaluate_dataset(options: argparse.Namespace) -> None:
    from lmii_ros import datasets
    from lmii_ros.evaluation import dataset
    if options.json:
        # Now, since an evaluation takes long and the file may not be possible; and emptied, so
        # that nobody takes what an earlier one left for the result of one that fails.
        options.json.write_text('')
    if options.out:
        from lmii_ros.evaluation import dataset_pictures
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    segmenter = _segmenter(options)
    data = datasets.open_dataset(options.data, options.split, options.kind)
    info = segmenter.info
    if data.classes.name == info.classes.name and info.was_trained_on(options.split):
        print(f'note: the weights were trained on {options.split} ({info.data}), so this tells '
              'how well they know it, not how good they are elsewhere', file=sys.stderr)
    of_images = dataset.evaluate_images(segmenter, data)
    counts = of_images.sum(axis=0)
    print(dataset.table(counts, info.classes))
    if options.json:
        options.json.write_text(dataset.to_json(counts, info.classes))
    if options.out:
        dataset_pictures.write(segmenter, data, of_images, options.out)
        print(options.out)


def _evaluate_bag(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation import bag
    from lmii_ros.evaluation import results
    segmenter = _segmenter(options)
    document = bag.evaluate(segmenter, bag.BagEvaluation(
        bag=options.bag, out=options.out, image_topic=options.image, labels_topic=options.labels,
        tolerance_ms=options.tolerance_ms, annotate=options.annotate or options.with_originals,
        with_originals=options.with_originals), command=['lmii', *options.arguments])
    print(results.table(document))
    print(f'results: {options.out}')
    _conclude(document, options.out)


def _evaluate_bags(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation import fleet
    from lmii_ros.evaluation import results
    document = fleet.evaluate(
        fleet.Fleet(
            folder=options.folder, out=options.out, weight_file=options.weights,
            engine=options.engine, device=options.device, precision=options.precision,
            input_height=options.input_height, image_topic=options.image,
            labels_topic=options.labels, tolerance_ms=options.tolerance_ms,
            annotate=options.annotate, with_originals=options.with_originals,
            workers=options.workers),
        options.on, command=['lmii', *options.arguments])
    print(results.table(document))
    print(f'{len(document["source"]["bags"])} bags, results: {options.out}')
    _conclude(document, options.out)


def _evaluate_live(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation.live import LiveEvaluation
    from lmii_ros.nodes import replay
    replay.run(
        LiveEvaluation(
            bag=options.bag, out=options.out, image_topic=options.image,
            labels_topic=options.labels, tolerance_ms=options.tolerance_ms, rate=options.rate),
        {'weights': options.weights, 'engine': options.engine, 'precision': options.precision,
         'device': options.device, 'input_height': options.input_height},
        command=['lmii', *options.arguments])


def _segmenter(options: argparse.Namespace) -> Segmenter:
    from lmii_ros.segmenter import Segmenter
    return Segmenter(
        options.weights, engine=options.engine, device=options.device,
        precision=options.precision, input_height=options.input_height)


def _conclude(document: dict[str, Any], out: Path) -> None:
    from lmii_ros.evaluation import results
    print(results.write_report(out))
    if document['faults']:
        raise ValueError(results.fault(document, out))


def _evaluate_report(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation import report
    print(report.write(options.results))


def _evaluate_compare(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation import comparison
    from lmii_ros.evaluation import result_folder
    found = comparison.compare(
        result_folder.read(options.before), result_folder.read(options.after), options.block)
    print(comparison.table(found))
    if options.out:
        from lmii_ros.evaluation import comparison_report
        comparison_report.write(found, options.out)
        print(options.out)
    if options.fail_on_regression:
        comparison.require_no_regression(found)
