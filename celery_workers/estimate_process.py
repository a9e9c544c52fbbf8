"""Say what the nodes of a graph will need: ``python -m celery_workers.estimate_process < question.json > answer.json``.

Asks each agent in the graph's order, and hands on what it expects of its outputs. The process reads shapes, never weights; it
has no credential in its environment, a bounded time, and ends with its answer.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import UserInputError
from celery_workers.contract.estimates import (
    Estimate,
    EstimateAnswer,
    EstimateContext,
    EstimateQuestion,
    JsonObject,
    Machine,
    NodeEstimate,
    NodeQuestion,
)

logger = logging.getLogger(__name__)

ALARM_SECONDS = 120
"""When it ends by itself, should the server be gone and not end it."""


def main() -> int:
    """Answer one question; return the exit status."""
    signal.alarm(ALARM_SECONDS)
    answer_fd = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get into the answer
    question = EstimateQuestion.model_validate_json(sys.stdin.buffer.read())
    from celery_workers.agents import registry

    _convert_bundled(question)
    answer = estimate_nodes(question, registry())
    with os.fdopen(answer_fd, "wb") as output:
        output.write(answer.model_dump_json().encode())
    return 0


def estimate_nodes(question: EstimateQuestion, agents: Mapping[str, AgentSpec]) -> EstimateAnswer:
    """Return an estimate of each node of the question, in its order."""
    outputs: dict[tuple[str, str], JsonObject] = {}
    answers = []
    for node in question.nodes:
        if node.given is not None:
            expected: Mapping[str, JsonObject] = node.given
            answers.append(NodeEstimate(node=node.node, is_done=True, seconds=0.0))
        else:
            estimate = _ask(node, question, agents, outputs)
            expected = estimate.outputs
            answers.append(_answer(node, estimate))
        outputs.update({(node.node, port): metadata for port, metadata in expected.items()})
    return EstimateAnswer(nodes=answers)


def _ask(
    node: NodeQuestion,
    question: EstimateQuestion,
    agents: Mapping[str, AgentSpec],
    outputs: Mapping[tuple[str, str], JsonObject],
) -> Estimate:
    spec = agents[node.agent]
    inputs = {port: [outputs[giver] for giver in givers if giver in outputs] for port, givers in node.inputs.items()}
    unknown = [port.name for port in spec.inputs if port.is_required and not inputs.get(port.name)]
    if unknown:
        return Estimate(notes=(f"Nothing is known yet of what comes in at {', '.join(unknown)}.",))
    context = EstimateContext(
        machine=question.machines.get(node.queue, Machine()), folders=question.folders, files=question.files
    )
    try:
        return spec.agent_class().estimate(context, spec.config_class.model_validate(node.config), inputs)
    except UserInputError as error:
        return Estimate(notes=(error.message,))
    except Exception as error:
        # An estimate is a courtesy: a bug in one must not hide the others, nor keep anybody from running.
        logger.exception("estimate.failed %s", node.agent)
        return Estimate(notes=(f"No estimate could be made ({type(error).__name__}).",))


def _answer(node: NodeQuestion, estimate: Estimate) -> NodeEstimate:
    return NodeEstimate(
        node=node.node,
        seconds=estimate.seconds,
        memory_bytes=estimate.memory_bytes,
        disk_bytes=estimate.disk_bytes,
        tokens=estimate.tokens,
        steps=estimate.steps,
        notes=list(estimate.notes),
    )


def _convert_bundled(question: EstimateQuestion) -> None:
    from pathlib import Path

    from celery_workers.modeling import bundled

    for reference, name in question.bundled.items():
        folder = Path(question.folders[reference])
        if not bundled.is_current(name, folder):
            bundled.ensure(name, folder)


if __name__ == "__main__":
    sys.exit(main())
