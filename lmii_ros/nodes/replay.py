# Copyright 2026 lmii_ros maintainers
# SPDX-License-Identifier: Apache-2.0
"""A bag played to the segmentation node, and its evaluation, as processes."""

from __future__ import annotations

import time
from typing import Mapping
from typing import Sequence

from lmii_ros.evaluation.live import LiveEvaluation
from lmii_ros.nodes import child_nodes
from lmii_ros.nodes.child_nodes import ChildNodeError
from lmii_ros.nodes.child_nodes import ChildNodes

POLL_S = 0.1


def run(
    evaluation: LiveEvaluation, parameters: Mapping[str, object], command: Sequence[str] = (),
) -> None:
    """
    Evaluate the segmentation node; the evaluation node prints and writes the results.

    :param parameters: Of the segmentation node.
    :param command: The command line, for run.json.
    :raises BagError: If the bag or one of its topics is not there.
    :raises ChildNodeError: If a node fails, or not all of the bag could be used.
    """
    topic, image_transport = evaluation.image_source()
    child_nodes.use_shared_memory_profile()
    with ChildNodes() as children:
        segmentation = children.start('segmentation_node', {
            **parameters, 'image_transport': image_transport})
        evaluating = children.start('evaluation_node', {
            'bag': str(evaluation.bag), 'out': str(evaluation.out), 'topic': topic,
            'labels': evaluation.labels_topic or '', 'tolerance_ms': evaluation.tolerance_ms,
            'rate': float(evaluation.rate), 'command': list(command)})
        while evaluating.poll() is None:
            child_nodes.check_running(segmentation)
            time.sleep(POLL_S)
        if evaluating.returncode:
            raise ChildNodeError('the evaluation failed, see above')
