"""The tasks of a compiled package, one by one, as Kubeflow Pipelines would run them.

KFP's driver resolves a task's inputs and its launcher starts the container with them as JSON in the
place of ``{{$}}``. Here the same is done from the package alone, so that a task runs as a process
of this machine (:func:`run_here`) or as a pod (:func:`pod`) without a KFP back end::

    outputs = {}
    for task in package_tasks(package, {"store": "s3://bucket/store"}):
        given = executor_input(task, root, outputs)
        run_here(task, given, env)
        outputs[task.name] = read_output(given)

Artifacts lie below ``root``: a folder, or ``s3://…``, which KFP's SDK looks for at ``/s3/…``.
"""

import copy
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from omnistage.cluster.settings import ClaimMount

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Task:
    """A task of a package with its parameters resolved."""

    name: str
    """In the package, such as ``sft`` or ``end-run``."""
    title: str
    """As people see it: the stage."""
    container: Mapping[str, Any]
    kubernetes: Mapping[str, Any]
    """What the package asks of Kubernetes: secrets, volumes, security context, …"""
    parameters: Mapping[str, Any]
    caching: bool
    artifacts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Input to the task and the output of it, or to ``("", URI)`` for an imported one."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Output artifact to its type."""
    status: str = ""
    """Name of the parameter that takes the final status of the run; of an exit task."""


def package_tasks(package: Path, parameters: Mapping[str, Any] | None = None) -> list[Task]:
    """Return the tasks of a package in an order they can run in; the exit task comes last.

    Args:
        package: As compiled.
        parameters: Of the run.

    Raises:
        ValueError: If a parameter is unknown, missing or of another type than the package says.
    """
    spec, platform = yaml.safe_load_all(package.read_text())
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    values = {n: _default(d) for n, d in declared.items() if "defaultValue" in d}
    for name, value in (parameters or {}).items():
        if name not in declared:
            raise ValueError(f"unknown parameter {name!r}; there are {', '.join(declared)}")
        wanted = str if declared[name]["parameterType"] == "STRING" else int
        if not isinstance(value, wanted):
            raise ValueError(f"parameter {name!r} is a {declared[name]['parameterType']}")
        values[name] = value
    missing = sorted(set(declared) - set(values))
    if missing:
        raise ValueError(f"parameters without a value: {', '.join(missing)}")
    config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found: list[Task] = []
    _walk(spec, config, spec["root"]["dag"], values, found)
    return found


def executor_input(
    task: Task,
    root: str,
    outputs: Mapping[str, Mapping[str, Any]],
    *,
    state: str = "SUCCEEDED",
    message: str = "",
    imported: Callable[[str], str] = lambda uri: uri,
) -> dict[str, Any]:
    """Return what KFP's launcher gives a task.

    Args:
        task: The task.
        root: Folder or ``s3://…`` of the run's artifacts.
        outputs: What :func:`read_output` gave for each task before.
        state: For an exit task, how the run ended.
        message: For an exit task, KFP's own words about a failure.
        imported: Turns the URI of an imported artifact into one that the task can read.
    """
    home = f"{root}/{task.name}"
    inputs = {}
    for name, (producer, output) in task.artifacts.items():
        if producer:
            inputs[name] = outputs[producer]["artifacts"][output]
        else:
            uri = imported(output)
            inputs[name] = {"artifacts": [{"name": name, "uri": uri, "metadata": {}}]}
    parameters = dict(task.parameters)
    if task.status:
        parameters[task.status] = {
            "state": state,
            "pipelineJobResourceName": "run",
            "pipelineTaskName": "stages",
            "error": {"code": 0, "message": message} if message else {},
        }
    made = {
        name: {
            "artifacts": [
                {"name": name, "uri": f"{home}/{name}", "metadata": {}, "type": {"schemaTitle": of}}
            ]
        }
        for name, of in task.outputs.items()
    }
    return {
        "inputs": {"parameterValues": parameters, "artifacts": inputs},
        "outputs": {"artifacts": made, "outputFile": f"{local(home)}/executor_output.json"},
    }


def local(uri: str) -> str:
    """Return the path at which KFP's SDK looks for an artifact."""
    return f"/s3/{uri.removeprefix('s3://')}" if uri.startswith("s3://") else uri


def read_output(given: Mapping[str, Any], mounted: Path | None = None) -> dict[str, Any]:
    """Return what a task says it made.

    Args:
        given: Its executor input.
        mounted: Folder of this machine that the task saw as ``/s3``.
    """
    path = given["outputs"]["outputFile"]
    if mounted is not None:
        path = str(mounted) + path.removeprefix("/s3")
    return json.loads(Path(path).read_text())


def command(task: Task, given: Mapping[str, Any]) -> list[str]:
    """Return the command line of a task."""
    container = task.container
    parts = [*container["command"], *container["args"]]
    return [json.dumps(given) if part == "{{$}}" else part for part in parts]


def run_here(
    task: Task, given: Mapping[str, Any], env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a task as a process of this machine.

    Args:
        task: The task.
        given: Its executor input.
        env: Variables, added to those of the package and of this process.
    """
    own = {e["name"]: e["value"] for e in task.container.get("env", [])}
    python = ROOT / ".venv" / "bin"
    return subprocess.run(
        command(task, given),
        env={
            **os.environ,
            **own,
            "PATH": f"{python}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def pod(
    task: Task,
    given: Mapping[str, Any],
    *,
    name: str,
    namespace: str,
    run: str,
    workflow: str = "",
    service_account: str = "omnistage-launcher",
    artifacts: Mapping[str, Any] | None = None,
    image: str = "",
    mounts: Sequence[ClaimMount] = (),
) -> dict[str, Any]:
    """Return a task as the pod that Kubeflow Pipelines makes of it.

    Args:
        task: The task.
        given: Its executor input, with a ``root`` of ``s3://…``.
        name: Of the pod.
        namespace: Of the pod.
        run: Id of the run, for the label ``pipeline/runid``.
        workflow: Name of the Workflow, for its label.
        service_account: Whom the pod acts as.
        artifacts: Volume that is mounted at ``/s3``; by default one that ends with the pod.
        image: Instead of the package's, for a cluster that has it by another name.
        mounts: Further claims, for an image that has its files from them.
    """
    asked = copy.deepcopy(dict(task.kubernetes))
    container = task.container
    places: list[dict[str, Any]] = [{"name": "artifacts", "mountPath": "/s3"}]
    volumes: list[dict[str, Any]] = [{"name": "artifacts", **(artifacts or {"emptyDir": {}})}]
    for number, (volume, mount) in enumerate([*_volumes(asked), *map(_claimed, mounts)]):
        volumes.append({"name": f"v{number}", **volume})
        places.append({"name": f"v{number}", **mount})
    env = [*container.get("env", []), *_environment(asked)]
    env.append(_field("KFP_POD_NAME", "metadata.name"))
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": service_account,
        "activeDeadlineSeconds": int(asked["activeDeadlineSeconds"]),
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": volumes,
        "imagePullSecrets": [{"name": s["secretName"]} for s in asked.get("imagePullSecret", [])],
        "containers": [
            {
                "name": "main",
                "image": image or container["image"],
                "command": command(task, given),
                "env": env,
                "volumeMounts": places,
                **_limits(container, asked),
            }
        ],
    }
    labels = {**asked.get("podMetadata", {}).get("labels", {}), "pipeline/runid": run}
    if workflow:
        labels["workflows.argoproj.io/workflow"] = workflow
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _limits(container: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the container may use and do."""
    resources = container.get("resources", {})
    return {
        "resources": {
            "requests": _amounts(resources, "Request"),
            "limits": _amounts(resources, "Limit"),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            **_security(asked.get("securityContext", {})),
        },
    }


def _walk(
    spec: Mapping[str, Any],
    platform: Mapping[str, Any],
    dag: Mapping[str, Any],
    values: Mapping[str, Any],
    found: list[Task],
) -> None:
    imported: dict[str, str] = {}
    left = dict(dag["tasks"])
    while left:
        name = next(n for n, t in left.items() if not set(t.get("dependentTasks", ())) & set(left))
        task = left.pop(name)
        component = spec["components"][task["componentRef"]["name"]]
        parameters = {
            n: _value(given, values)
            for n, given in task.get("inputs", {}).get("parameters", {}).items()
            if "taskFinalStatus" not in given
        }
        if "dag" in component:
            _walk(spec, platform, component["dag"], parameters, found)
            continue
        executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "importer" in executor:
            imported[name] = parameters["uri"]
            continue
        artifacts = {}
        for n, given in task.get("inputs", {}).get("artifacts", {}).items():
            source = given["taskOutputArtifact"]
            producer = source["producerTask"]
            if producer in imported:
                artifacts[n] = ("", imported[producer])
            else:
                artifacts[n] = (producer, source["outputArtifactKey"])
        given_by_kfp = task.get("inputs", {}).get("parameters", {}).items()
        status = [n for n, given in given_by_kfp if "taskFinalStatus" in given]
        made = component.get("outputDefinitions", {}).get("artifacts", {})
        found.append(
            Task(
                name=name,
                title=task["taskInfo"]["name"],
                container=executor["container"],
                kubernetes=platform[component["executorLabel"]],
                parameters=parameters,
                caching=bool(task.get("cachingOptions", {}).get("enableCache")),
                artifacts=artifacts,
                outputs={n: o["artifactType"]["schemaTitle"] for n, o in made.items()},
                status=status[0] if status else "",
            )
        )


def _default(declared: Mapping[str, Any]) -> Any:
    value = declared["defaultValue"]
    return int(value) if declared["parameterType"] == "NUMBER_INTEGER" else value


def _value(given: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    if "componentInputParameter" in given:
        return values[given["componentInputParameter"]]
    return given["runtimeValue"]["constant"]


def _volumes(asked: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for v in asked.get("emptyDirMounts", []):
        found.append(({"emptyDir": {}}, {"mountPath": v["mountPath"]}))
    for v in asked.get("configMapAsVolume", []):
        source = {"name": v["configMapName"], "optional": v.get("optional", False)}
        found.append(({"configMap": source}, {"mountPath": v["mountPath"]}))
    for v in asked.get("pvcMount", []):
        claim = {"persistentVolumeClaim": {"claimName": v["constant"]}}
        mount = {"mountPath": v["mountPath"]}
        found.append((claim, {**mount, **({"subPath": v["subPath"]} if "subPath" in v else {})}))
    return found


def _claimed(mount: ClaimMount) -> tuple[dict[str, Any], dict[str, Any]]:
    claim = {"persistentVolumeClaim": {"claimName": mount.claim}}
    return claim, {"mountPath": mount.mount_path, "readOnly": mount.read_only}


def _environment(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    env = [_field(f["name"], f["fieldPath"]) for f in asked.get("fieldPathAsEnv", [])]
    for source, ref, name, key in (
        ("secretAsEnv", "secretKeyRef", "secretName", "secretKey"),
        ("configMapAsEnv", "configMapKeyRef", "configMapName", "configMapKey"),
    ):
        for entry in asked.get(source, []):
            env += [
                {
                    "name": pair["envVar"],
                    "valueFrom": {
                        ref: {
                            "name": entry[name],
                            "key": pair[key],
                            "optional": entry.get("optional", False),
                        }
                    },
                }
                for pair in entry["keyToEnv"]
            ]
    return env


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _amounts(resources: Mapping[str, Any], which: str) -> dict[str, str]:
    pairs = {"cpu": f"resourceCpu{which}", "memory": f"resourceMemory{which}"}
    return {name: resources[key] for name, key in pairs.items() if key in resources}


def _security(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {n: int(v) if n != "runAsNonRoot" else v for n, v in asked.items()}
