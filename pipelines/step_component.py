"""The KFP component of a step: made for it, with just the inputs that it has."""

import inspect
import keyword
from typing import Any

from omnistage.kubeflow.sdk import Parameter, make_component
from omnistage.stage.contract import always
from pipelines.graph import Graph, Step

RESULT = "result"
"""Output of every component: the manifest of what its step makes."""
JOB = (
    Parameter("node_pool", str, "Node pool of the training jobs; empty for the recipe's.", ""),
    Parameter("queue", str, "Kueue LocalQueue of the training jobs; empty for the recipe's.", ""),
    Parameter("nodes", int, "Pods of a job; 0 for the recipe's. Evaluation takes one.", 0),
    Parameter("gpus_per_node", int, "GPUs of a pod; 0 for the recipe's.", 0),
)
"""What a run may say of its jobs."""
_EVERY = (
    Parameter("step", str, "Name of the step."),
    Parameter("config", str, "Settings of the stage as JSON."),
    Parameter("store", str, "URI of the store."),
    Parameter("runtime", str, "TaskRuntime as JSON.", "{}"),
)


def job_parameters(step: Step) -> list[Parameter]:
    """Return what a run may say of the job of a step."""
    if step.stage.launched is not always:
        return []
    return [p for p in JOB if p.name != "nodes" or step.stage.max_nodes != 1]


def source_parameter(step: Step) -> Parameter | None:
    """Return the parameter of a run that gives a step another source, if it reads from outside."""
    what = {"data": "data set", "model": "model"}.get(step.stage.source)
    if what is None:
        return None
    about = f"URI of the {what}, instead of the recipe's sources of {step.name}."
    return Parameter(step.parameter, str, about, "")


def step_component(step: Step, graph: Graph) -> Any:
    """Return the component of a step.

    Args:
        step: The step.
        graph: That it is one of: it says what makes its inputs.
    """
    optional = list(job_parameters(step))
    if step.stage.source:
        about = "URI of what to fetch instead of the sources in config; empty for those."
        optional.append(Parameter("source", str, about, ""))
    inputs = {
        name: (f"types.{graph[source].kind}", f"What {source} has made.")
        for name, source in step.sources.items()
    }
    outputs = {RESULT: (f"types.{step.kind}", "What this step makes.")}
    more = [f"{p.name}={p.name}" for p in optional]
    if step.kind == "EvalReport":
        outputs["html"] = ("dsl.HTML", "The report, for the pages of Kubeflow Pipelines.")
        outputs["metrics"] = ("dsl.Metrics", "The headline figure of each model.")
        outputs["confusion"] = (
            "dsl.ClassificationMetrics",
            "What the last model says of each gold answer; empty where golds are no classes.",
        )
        more += ["html=html", "metrics=metrics", "confusion=confusion"]
    given = ", ".join(f"{name!r}: {name}" for name in inputs)
    arguments = ["step", "config", "store", RESULT, f"{{{given}}}", "runtime", *more]
    doc = inspect.getdoc(step.stage.config) or ""
    return make_component(
        python_name(step.name),
        f"The step {step.name}, stage {step.stage.name}. {doc.splitlines()[0]}",
        [*_EVERY, *optional],
        inputs,
        outputs,
        [
            "from pipelines.task import run_step",
            "",
            f"run_step({step.stage.name!r}, {', '.join(arguments)})",
        ],
    )


def python_name(name: str) -> str:
    """Return the name of a step as a name of Python."""
    found = name.replace("-", "_")
    return f"{found}_" if keyword.iskeyword(found) else found
