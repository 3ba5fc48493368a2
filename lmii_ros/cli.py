# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command ``lmii``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from lmii_ros.engines import NonFiniteOutput
from lmii_ros.engines import OutOfMemory

KIND_HELP = (
    'of the data set: camvid, camvid_original, cityscapes, folder or auto, which tells by the '
    'folders (%(default)s)')


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code; what is wrong goes to stderr as one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        options.run(options)
    except (ValueError, OSError, NonFiniteOutput, OutOfMemory) as error:
        print(f'lmii {options.command}: {error}', file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        # Some commands need more than a robot does.
        if (error.name or __package__).partition('.')[0] == __package__:
            raise
        print(
            f'lmii {options.command}: the Python package {error.name} is not installed',
            file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='lmii', description='Semantic segmentation for robots.')
    commands = parser.add_subparsers(dest='command', required=True)

    demo = commands.add_parser(
        'demo', help='show camera, network and outputs at work over ROS 2')
    demo.add_argument(
        '--source', default='', help='folder, video or bag of your own (a synthetic road scene)')
    demo.add_argument(
        '--labels', default='', help='label images of the folder, or label topic of the bag')
    demo.add_argument('--topic', default='', help='image topic of the bag (its only one)')
    demo.add_argument('--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    demo.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network sees the frames (that of its training)')
    demo.add_argument('--rate', type=float, default=8.0, help='frames per second (%(default)s)')
    demo.add_argument('--seconds', type=float, default=15.0, help='at most (%(default)s)')
    demo.add_argument(
        '--out', type=Path, default=Path('output'), help='folder for the results (%(default)s)')
    demo.set_defaults(run=_demo)

    evaluate = commands.add_parser('evaluate', help='measure accuracy')
    subjects = evaluate.add_subparsers(dest='subject', required=True)
    dataset = subjects.add_parser('dataset', help='on a data set with labels')
    dataset.add_argument('data', type=Path, help='folder of the data set')
    dataset.add_argument('--split', default='val', help='(%(default)s)')
    dataset.add_argument('--kind', default='auto', help=KIND_HELP)
    _add_operating_point(dataset)
    dataset.add_argument('--json', type=Path, help='file for the same as JSON')
    dataset.add_argument(
        '--out', type=Path, help='folder for pictures: confusion matrix, ten worst images')
    dataset.set_defaults(run=_evaluate_dataset)

    bag = subjects.add_parser('bag', help='on a rosbag, every frame of it')
    bag.add_argument('bag', type=Path, help='rosbag2 folder, .mcap, .db3, or ROS 1 .bag file')
    _add_bag_topics(bag)
    bag.add_argument('--out', type=Path, required=True, help='folder for the results')
    _add_annotate(bag)
    _add_operating_point(bag)
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
    _add_bag_topics(bags)
    bags.add_argument(
        '--out', type=Path, required=True,
        help='folder for the results; bags that are done there are not done again')
    _add_annotate(bags)
    bags.add_argument(
        '--on', choices=('local', 'ray'), default='local',
        help='processes of this machine, or a Ray cluster (%(default)s)')
    bags.add_argument(
        '--workers', type=int, default=1,
        help='bags at the same time on a machine, which share its cores (%(default)s)')
    _add_operating_point(bags)
    bags.set_defaults(run=_evaluate_bags)

    live = subjects.add_parser(
        'live', help='of the node over ROS 2, a rosbag played to it: what a vehicle would get')
    live.add_argument('bag', type=Path, help='rosbag2 folder, or .mcap or .db3 file')
    _add_bag_topics(live)
    live.add_argument(
        '--rate', type=float, default=1.0, help='speed, 1 for that of the recording (%(default)s)')
    live.add_argument('--out', type=Path, required=True, help='folder for the results')
    _add_operating_point(live)
    live.set_defaults(run=_evaluate_live)

    benchmark = commands.add_parser('benchmark', help='measure speed')
    subjects = benchmark.add_subparsers(dest='subject', required=True)
    network = subjects.add_parser(
        'network', help='networks on every engine, against eager torch, in turns')
    network.add_argument(
        '--weights', nargs='+', default=['lpsnet_s_camvid'], metavar='WEIGHTS',
        help='paths or names of weight files; or of networks, for random weights (%(default)s)')
    network.add_argument(
        '--sizes', type=_size, nargs='+', default=[(1024, 512)], metavar='SIZE',
        help='at which the networks see frames (1024x512)')
    network.add_argument(
        '--contenders', nargs='+', metavar='ENGINE:PRECISION', default=[], help='(all there are)')
    network.add_argument('--batch', type=int, default=1, help='frames a run (%(default)s)')
    network.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    network.add_argument('--threads', type=int, default=1, help='(%(default)s)')
    network.add_argument('--rounds', type=int, default=7, help='(%(default)s)')
    network.add_argument('--json', type=Path, help='file for the same as JSON')
    network.set_defaults(run=_benchmark_network)

    pipeline = subjects.add_parser(
        'pipeline', help='from frame to labels and overlay, against the naive way, in turns')
    pipeline.add_argument(
        '--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    pipeline.add_argument('--size', type=_size, default='1280x720', help='of frames (%(default)s)')
    pipeline.add_argument(
        '--input-height', type=int, default=512,
        help='at which the network sees the frames (%(default)s)')
    pipeline.add_argument(
        '--contenders', nargs='+', metavar='ENGINE:PRECISION',
        default=['torch:fp32', 'openvino:fp32'], help='(%(default)s)')
    pipeline.add_argument('--threads', type=int, default=1, help='(%(default)s)')
    pipeline.add_argument('--rounds', type=int, default=7, help='(%(default)s)')
    pipeline.add_argument('--json', type=Path, help='file for the same as JSON')
    pipeline.set_defaults(run=_benchmark_pipeline)

    node = subjects.add_parser(
        'node', help='from camera to labels over ROS 2, with all three as processes')
    node.add_argument('--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    node.add_argument('--size', type=_size, default='1280x720', help='of frames (%(default)s)')
    node.add_argument('--rate', type=float, default=30.0, help='frames per second (%(default)s)')
    node.add_argument('--frames', type=int, default=300, help='each round (%(default)s)')
    node.add_argument(
        '--outputs', nargs='*', default=['labels', 'overlay'], metavar='OUTPUT',
        help='topics of the node to subscribe to; none, and it only receives (labels overlay)')
    node.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network sees the frames (that of its training)')
    node.add_argument('--engine', default='auto', help='an engine or auto (%(default)s)')
    node.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    node.add_argument(
        '--precision', default='auto', help='auto, fp32, fp16, bf16, int8 (%(default)s)')
    node.add_argument('--threads', type=int, default=0, help='0 for the engine\'s choice')
    node.add_argument(
        '--naive', action='store_true', help='the node of the tutorials too, in turns')
    node.add_argument('--rounds', type=int, default=1, help='(%(default)s)')
    node.add_argument(
        '--busy', type=int, default=0,
        help='processes beside it that take all the processor time they get (%(default)s)')
    node.add_argument('--json', type=Path, help='file for the same as JSON')
    node.set_defaults(run=_benchmark_node)

    rates = subjects.add_parser(
        'rates', help='whether the node holds the rate it is asked for, over ROS 2')
    rates.add_argument(
        '--weights', nargs='+', default=['lpsnet_s_camvid', 'auto'], metavar='WEIGHTS',
        help='offered to the node, see lmii tune (all shipped ones for CamVid)')
    rates.add_argument('--size', type=_size, default='1280x720', help='of frames (%(default)s)')
    rates.add_argument(
        '--targets', type=float, nargs='+', default=[5, 10, 20, 30, 60], metavar='FPS',
        help='frames per second (%(default)s)')
    rates.add_argument('--seconds', type=float, default=20.0, help='each (%(default)s)')
    rates.add_argument(
        '--disturbed', type=float, default=20.0, metavar='FPS',
        help='rate at which another process takes a core, 0 for none (%(default)s)')
    rates.add_argument('--headroom', type=float, default=0.8, help='(%(default)s)')
    rates.add_argument('--engine', default='auto', help='auto, openvino, torch (%(default)s)')
    rates.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    rates.add_argument('--precision', default='auto', help='auto, fp32, bf16 (%(default)s)')
    rates.add_argument('--threads', type=int, default=0, help='0 for the engine\'s choice')
    rates.add_argument(
        '--exhaustive', action='store_true',
        help='time all candidates, to see whether a better one would have been fast enough')
    rates.add_argument('--json', type=Path, help='file for the same as JSON')
    rates.set_defaults(run=_benchmark_rates)

    bags = commands.add_parser('bag', help='make rosbags')
    subjects = bags.add_subparsers(dest='subject', required=True)
    make = subjects.add_parser(
        'make', help='of a folder of images, a video, another bag, or the synthetic scene')
    make.add_argument('source', help='folder, video, bag, or "synthetic"')
    make.add_argument('--out', type=Path, required=True, help='the bag, a new folder')
    make.add_argument(
        '--labels', default='', help='label images of the folder, or label topic of the bag')
    make.add_argument('--topic', default='', help='image topic of the bag (its only one)')
    make.add_argument('--size', type=_size, help='of frames, such as 1280x720 (their own)')
    make.add_argument(
        '--rate', type=float, default=15.0, help='frames per second (%(default)s)')
    make.add_argument(
        '--encoding', default='bgr8', help='of raw images, or jpeg or png (%(default)s)')
    make.add_argument('--frames', type=int, default=0, help='at most (all)')
    make.add_argument(
        '--fov', type=float, metavar='DEGREES',
        help='horizontal field of view, for camera_info (uncalibrated)')
    make.add_argument(
        '--void', type=int, metavar='LABEL',
        help='label that means unknown, besides 255 (11 for folders named as in CamVid: val, '
        'valannot)')
    make.set_defaults(run=_bag_make)

    export = commands.add_parser('export', help='write a weight file in another form')
    export.add_argument('weights', help='path or name of a weight file')
    export.add_argument(
        '--int8', action='store_true', help='a weight file that is calibrated for int8')
    export.add_argument(
        '--calibrate', metavar='IMAGES',
        help='what int8 is calibrated with: a data set, whose val split then tells what int8 '
        'costs, or a folder, video or bag')
    export.add_argument(
        '--out', type=Path, help='file for int8 (name of the weights and _int8)')
    export.add_argument(
        '--onnx', type=Path, metavar='FILE',
        help='an ONNX file: image bytes in, logits out, for runtimes of your own')
    export.add_argument('--size', type=_size, help='width and height of the frames, for ONNX')
    export.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network is to see them (that of its training), for ONNX')
    export.set_defaults(run=_export)

    tune = commands.add_parser(
        'tune', help='find the operating point for a frame rate on this machine')
    tune.add_argument(
        '--weights', nargs='+', default=['lpsnet_s_camvid', 'auto'], metavar='WEIGHTS',
        help='to choose from; paths, names of shipped ones, or auto for all shipped ones of the '
        'first one\'s classes (all shipped ones for CamVid)')
    tune.add_argument('--size', type=_size, default='1280x720', help='of frames (%(default)s)')
    tune.add_argument(
        '--target-fps', type=float, required=True, help='frames per second to hold')
    tune.add_argument(
        '--headroom', type=float, default=0.8,
        help='share of the time between two frames that may be used (%(default)s)')
    tune.add_argument('--engine', default='auto', help='auto, openvino, torch (%(default)s)')
    tune.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    tune.add_argument('--precision', default='auto', help='auto, fp32, bf16 (%(default)s)')
    tune.add_argument('--threads', type=int, default=0, help='0 for the engine\'s choice')
    tune.add_argument('--exhaustive', action='store_true', help='time all candidates')
    tune.add_argument('--anew', action='store_true', help='measure what was measured before')
    tune.add_argument(
        '--out', type=Path, default=Path('output'),
        help='folder for curve and parameter file (%(default)s)')
    tune.set_defaults(run=_tune)

    train = commands.add_parser('train', help='train a network by a recipe')
    train.add_argument('recipe', type=Path, help='YAML file, see config/training')
    train.add_argument('--data', type=Path, required=True, help='folder of the data set')
    train.add_argument('--kind', default='auto', help=KIND_HELP)
    train.add_argument(
        '--out', type=Path, required=True,
        help='folder for checkpoint, log and weight file; a run found there is continued')
    train.add_argument(
        '--val', default='val', help='split to measure on, empty for none (%(default)s)')
    train.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    train.add_argument(
        '--workers', type=int, default=1, help='processes that prepare images (%(default)s)')
    train.set_defaults(run=_train)
    return parser


def _add_bag_topics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--image', metavar='TOPIC', help='of the images (its only one)')
    parser.add_argument('--labels', metavar='TOPIC', help='of the ground truth, if there is any')
    parser.add_argument(
        '--tolerance-ms', type=float, default=10.0,
        help='how far the stamps of image and ground truth may be apart (%(default)s)')


def _add_annotate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--annotate', action='store_true', help='write labels and pictures into a bag in OUT')
    parser.add_argument(
        '--with-originals', action='store_true', help='with all topics of this one; annotates')


def _add_operating_point(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--weights', default='lpsnet_s_camvid', help='path or name (%(default)s)')
    parser.add_argument('--engine', default='auto', help='an engine or auto (%(default)s)')
    parser.add_argument(
        '--precision', default='auto', help='auto, fp32, fp16, bf16, int8 (%(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (%(default)s)')
    parser.add_argument(
        '--input-height', type=int, default=0,
        help='at which the network sees the frames (that of its training)')


# The commands import what they need: torch alone takes seconds, which --help should not.

def _demo(options: argparse.Namespace) -> None:
    from lmii_ros.nodes import demo
    demo.run(demo.Demo(
        out=options.out, source=options.source, labels=options.labels, topic=options.topic,
        weight_file=options.weights, input_height=options.input_height, rate=options.rate,
        seconds=options.seconds))


def _evaluate_dataset(options: argparse.Namespace) -> None:
    from lmii_ros import datasets
    from lmii_ros.evaluation import dataset
    from lmii_ros.segmenter import Segmenter
    if options.json:
        # Now, since an evaluation takes long and the file may not be possible.
        options.json.touch()
    if options.out:
        from lmii_ros.evaluation import dataset_pictures
        options.out.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(
        options.weights, engine=options.engine, device=options.device,
        precision=options.precision, input_height=options.input_height)
    data = datasets.open_dataset(options.data, options.split, options.kind)
    of_images = dataset.evaluate_images(segmenter, data)
    counts = of_images.sum(axis=0)
    print(dataset.table(counts, segmenter.info.classes))
    if options.json:
        options.json.write_text(dataset.to_json(counts, segmenter.info.classes))
    if options.out:
        dataset_pictures.write(segmenter, data, of_images, options.out)
        print(options.out)


def _benchmark_network(options: argparse.Namespace) -> None:
    from lmii_ros.benchmark import network
    results = network.run(network.NetworkBenchmark(
        subjects=tuple(options.weights),
        sizes=tuple(options.sizes),
        contenders=_contenders(options), batch=options.batch, device=options.device,
        threads=options.threads, rounds=options.rounds))
    _show(network.table(results), results, options)


def _evaluate_bag(options: argparse.Namespace) -> None:
    from lmii_ros.evaluation import bag
    from lmii_ros.evaluation import results
    from lmii_ros.segmenter import Segmenter
    segmenter = Segmenter(
        options.weights, engine=options.engine, device=options.device,
        precision=options.precision, input_height=options.input_height)
    document = bag.evaluate(segmenter, bag.BagEvaluation(
        bag=options.bag, out=options.out, image_topic=options.image, labels_topic=options.labels,
        tolerance_ms=options.tolerance_ms, annotate=options.annotate or options.with_originals,
        with_originals=options.with_originals), command=['lmii', *options.arguments])
    print(results.table(document))
    print(f'results: {options.out}')
    print(results.write_report(options.out))
    if document['faults']:
        raise ValueError(results.fault(document, options.out))


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
    print(results.write_report(options.out))
    if document['faults']:
        raise ValueError(results.fault(document, options.out))


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


def _benchmark_pipeline(options: argparse.Namespace) -> None:
    from lmii_ros.benchmark import pipeline
    results = pipeline.run(pipeline.PipelineBenchmark(
        weight_file=options.weights, size=options.size, input_height=options.input_height,
        contenders=_contenders(options), threads=options.threads, rounds=options.rounds))
    _show(pipeline.table(results), results, options)


def _benchmark_node(options: argparse.Namespace) -> None:
    from lmii_ros.nodes import benchmark
    results = benchmark.run(benchmark.NodeBenchmark(
        weight_file=options.weights, size=options.size, rate=options.rate, frames=options.frames,
        outputs=tuple(options.outputs), input_height=options.input_height, engine=options.engine,
        device=options.device, precision=options.precision, threads=options.threads,
        naive=options.naive, rounds=options.rounds, busy=options.busy))
    _show(benchmark.table(results), results, options)


def _contenders(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    return tuple(
        (engine, precision or 'fp32') for engine, _, precision in (
            contender.partition(':') for contender in options.contenders))


def _benchmark_rates(options: argparse.Namespace) -> None:
    from lmii_ros.nodes import rates_benchmark
    results = rates_benchmark.run(rates_benchmark.RatesBenchmark(
        weight_files=tuple(options.weights), size=options.size, targets=tuple(options.targets),
        seconds=options.seconds, disturbed=options.disturbed, headroom=options.headroom,
        engine=options.engine, device=options.device, precision=options.precision,
        threads=options.threads, exhaustive=options.exhaustive))
    _show(rates_benchmark.table(results), results, options)


def _show(table: str, results: dict[str, object], options: argparse.Namespace) -> None:
    print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _bag_make(options: argparse.Namespace) -> None:
    from lmii_ros import recording
    frames, labelled = recording.record(recording.Recording(
        source=options.source, out=options.out, labels=options.labels, topic=options.topic,
        size=options.size, rate=options.rate, encoding=options.encoding, frames=options.frames,
        fov_deg=options.fov, void=options.void))
    print(f'{options.out}: {frames} frames, {labelled} with labels')


def _export(options: argparse.Namespace) -> None:
    if not options.int8 and not options.onnx:
        raise ValueError('nothing to do; give --int8, --onnx FILE, or both')
    if options.int8 and not options.calibrate:
        raise ValueError('--int8 needs --calibrate IMAGES: a data set, folder, video or bag')
    from lmii_ros import export
    from lmii_ros.segmenter import Segmenter
    segmenter = Segmenter(
        options.weights, engine='torch', device='cpu', precision='fp32',
        input_height=options.input_height)
    if options.onnx:
        width, height = options.size or segmenter.info.input_size[::-1]
        input_size = segmenter.input_size((height, width))
        export.to_onnx(options.weights, input_size, options.onnx)
        print(f'{options.onnx}: image uint8 1x{input_size[0]}x{input_size[1]}x3 (BGR) to logits')
    if options.int8:
        _export_int8(
            options, options.out or Path(f'{segmenter.weight_file.stem}_int8.safetensors'))


def _export_int8(options: argparse.Namespace, path: Path) -> None:
    from lmii_ros import datasets
    from lmii_ros import export
    from lmii_ros import metrics
    from lmii_ros import weights
    from lmii_ros.evaluation import dataset
    from lmii_ros.segmenter import Segmenter
    from lmii_ros.sources import open_source
    if not (Path(options.calibrate) / 'trainannot').is_dir():
        export.to_int8(
            options.weights, (frame.image for frame in open_source(options.calibrate)), path)
        print(f'{path}: without labels nobody knows what int8 costs, so precision auto takes no '
              'int8; calibrate with a data set')
        return
    training = datasets.camvid(options.calibrate, 'train')
    validation = datasets.camvid(options.calibrate, 'val')
    export.to_int8(
        options.weights, (training.image(index) for index in range(len(training))), path)
    exact = metrics.scores(
        dataset.evaluate(Segmenter(path, precision='fp32'), validation)).miou
    loss = dataset.precision_loss(path, 'auto', exact, validation)
    info, network = weights.load(path)
    weights.save(
        path, replace(info, precision_loss=info.precision_loss | loss), network)
    for precision, lost in loss.items():
        print(f'{precision} costs {100 * lost:.2f} of {100 * exact:.2f} points of mIoU')
    print(path)


def _tune(options: argparse.Namespace) -> None:
    from lmii_ros.operating_point import tuning
    wanted = tuning.Tuning(
        weight_files=tuple(options.weights), size=options.size, target_fps=options.target_fps,
        headroom=options.headroom, engine=options.engine, device=options.device,
        precision=options.precision, threads=options.threads, exhaustive=options.exhaustive,
        anew=options.anew)
    choice = tuning.run(wanted, lambda line: print(f'\r{line:<79}', end='', file=sys.stderr))
    print('\r', end='', file=sys.stderr)
    print(tuning.table(wanted, choice))
    for path in tuning.write(wanted, choice, options.out):
        print(path)


def _size(text: str) -> tuple[int, int]:
    width, height = (int(number) for number in text.split('x'))
    return width, height


def _train(options: argparse.Namespace) -> None:
    from lmii_ros import datasets
    from lmii_ros import weights
    from lmii_ros.engines.torch import select_device
    from lmii_ros.evaluation import dataset
    from lmii_ros.segmenter import Segmenter
    from lmii_ros.training import parallel
    from lmii_ros.training import recipe
    from lmii_ros.training.trainer import train
    chosen = recipe.read(options.recipe)

    def opened(split: str) -> datasets.Dataset:
        return datasets.open_dataset(options.data, split, options.kind)

    validation = opened(options.val) if options.val else None
    path = train(
        chosen,
        opened(chosen.split),
        validation,
        options.out,
        device=parallel.local_device(select_device(options.device)),
        workers=options.workers,
    )
    if not parallel.join().writes:
        return
    if validation and options.val not in chosen.split.split('+'):
        miou = dataset.miou_by_height(
            Segmenter(path, device=options.device, precision='fp32'), validation)
        info, network = weights.load(path)
        loss = dataset.precision_loss(path, options.device, miou[info.input_size[0]], validation)
        weights.save(path, replace(info, miou=miou, precision_loss=loss), network)
        for precision, lost in loss.items():
            print(f'{precision} costs {100 * lost:.2f} points of mIoU')
        for height, value in miou.items():
            print(f'mIoU on {options.val} at input height {height}: {100 * value:.2f} %')
    print(path)


if __name__ == '__main__':
    sys.exit(main())
