"""Pure checks over the cluster objects that ``omnistage doctor --cluster`` reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.utils import parse_quantity

from omnistage.cluster.jobs.backends import backend_of, launcher_rights
from omnistage.cluster.settings import LaunchSettings, NodePool
from omnistage.doctor.check import Check, fail, ok, warn


def rights(settings: LaunchSettings) -> list[tuple[str, str, str]]:
    """Return every verb that a launcher needs: verb, group, resource."""
    return [(v, r.group, r.resource) for r in launcher_rights(settings) for v in r.verbs]


def rights_check(account: str, refused: Sequence[tuple[str, str, str]], asked: int) -> Check:
    """Check that a launcher lacks no right."""
    if not refused:
        return ok("rbac", f"{account} may do all of {asked} needed verbs")
    named = ", ".join(f"{v} {r}{f'.{g}' if g else ''}" for v, g, r in refused)
    return fail(
        "rbac",
        f"{account} may not {named}",
        "helm upgrade the chart omnistage with rbac.create, or add the account to rbac.launchers",
    )


def pool_check(nodes: Sequence[Mapping[str, Any]], settings: LaunchSettings) -> Check:
    """Check whether the chosen node pool can hold a job.

    Args:
        nodes: All nodes of the cluster.
        settings: Of the job.
    """
    pool, name = settings.pool(), settings.node_pool or "any node"
    where = f"pool {name}" if settings.node_pool else name
    chosen = [n for n in nodes if _selected(n, pool)]
    if not chosen:
        selector = ", ".join(f"{k}={v}" for k, v in pool.node_selector.items())
        return warn(
            "gpus",
            f"{where}: no node with {selector or 'any label'}",
            "right for a pool that is scaled from nothing; otherwise mend cluster.node_pools",
        )
    open_nodes = [n for n in chosen if not _untolerated(n, pool)]
    if not open_nodes:
        taints = sorted({t for n in chosen for t in _untolerated(n, pool)})
        return fail(
            "gpus",
            f"{where}: {len(chosen)} nodes, all with taints that its pods do not tolerate: "
            f"{', '.join(taints)}",
            "add the tolerations to cluster.node_pools (the chart's launch.settings)",
        )
    need = {
        settings.gpu_resource: settings.gpus_per_node,
        "cpu": parse_quantity(settings.cpu),
        "memory": parse_quantity(settings.memory),
        **settings.rdma,
    }
    fitting, short = 0, {}
    for node in open_nodes:
        have = node["status"]["allocatable"]
        lacks = {
            r: have.get(r, "0") for r, n in need.items() if parse_quantity(have.get(r, "0")) < n
        }
        fitting += not lacks
        short |= lacks
    gpus = sum(int(n["status"]["allocatable"].get(settings.gpu_resource, 0)) for n in open_nodes)
    found = f"{where}: {len(open_nodes)} nodes with {gpus} {settings.gpu_resource}"
    if fitting >= settings.nodes:
        return ok("gpus", f"{found}; {fitting} can hold a pod, {settings.nodes} needed")
    lacking = ", ".join(f"{r} (has {v})" for r, v in short.items())
    return fail(
        "gpus",
        f"{found}; {fitting} of {settings.nodes} needed can hold a pod"
        + (f"; too little {lacking}" if lacking else ""),
        "lower cluster.nodes, gpus_per_node, cpu or memory, or see that NVIDIA's device plugin "
        "runs on the nodes",
    )


def operator_check(deployments: Sequence[Mapping[str, Any]], settings: LaunchSettings) -> Check:
    """Check whether the operator that makes the pods of jobs is running.

    Args:
        deployments: Of all namespaces.
        settings: Of the job.
    """
    word = backend_of(settings).operator
    found = [d for d in deployments if d["metadata"]["name"].endswith(word)]
    if not found:
        return fail("operator", f"no deployment {word}", "install the chart omnistage-platform")
    where = f"{found[0]['metadata']['namespace']}/{found[0]['metadata']['name']}"
    image = found[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    if not any(d.get("status", {}).get("availableReplicas") for d in found):
        return fail(
            "operator",
            f"{where} is not available",
            "`kubectl -n {namespace} describe deployment {name}` says why".format(
                **found[0]["metadata"]
            ),
        )
    return ok("operator", f"{where} ({image.rpartition('/')[2]})")


def queue_check(name: str, queue: Mapping[str, Any] | None) -> Check:
    """Check a Kueue LocalQueue."""
    if queue is None:
        return fail("queue", f"no LocalQueue {name}", "make it, or set cluster.queue")
    active = [c for c in queue.get("status", {}).get("conditions", []) if c["type"] == "Active"]
    if active and active[0]["status"] != "True":
        return fail("queue", f"{name}: {active[0]['message']}", "see its ClusterQueue")
    waiting = queue.get("status", {}).get("pendingWorkloads", 0)
    return ok("queue", f"{name} of {queue['spec']['clusterQueue']}, {waiting} waiting")


def claim_check(name: str, claim: Mapping[str, Any] | None, classes: Sequence[str] | None) -> Check:
    """Check a PersistentVolumeClaim.

    Args:
        name: Of the claim.
        claim: As read.
        classes: Storage classes of the cluster; None if they cannot be read.
    """
    if claim is None:
        return fail(f"claim {name}", "not there", "make it, or mend cluster.volumes")
    phase = claim.get("status", {}).get("phase", "Pending")
    wanted = claim["spec"].get("storageClassName")
    if phase == "Bound":
        modes = ", ".join(claim["spec"].get("accessModes", []))
        return ok(f"claim {name}", f"bound, {modes}")
    if wanted and classes is not None and wanted not in classes:
        return fail(
            f"claim {name}",
            f"{phase}; no storage class {wanted}",
            f"choose one of {', '.join(classes) or 'none'}",
        )
    return warn(
        f"claim {name}",
        phase,
        f"right for a class that binds on first use; else `kubectl describe pvc {name}` says why",
    )


def keys_check(kind: str, name: str, have: Sequence[str] | None, want: Sequence[str]) -> Check:
    """Check the keys of a Secret or ConfigMap; only their names.

    Args:
        kind: ``secret`` or ``config map``.
        name: Of the object.
        have: Its keys; None if it is not there.
        want: Keys that it must have.
    """
    if have is None:
        advice = f"kubectl create {kind.replace(' ', '')} … {name}, or set another name"
        return fail(f"{kind} {name}", "not there", advice)
    missing = [key for key in want if key not in have]
    if missing:
        return fail(f"{kind} {name}", f"lacks {', '.join(missing)}", "add them to it")
    return ok(f"{kind} {name}", f"has {', '.join(sorted(have)) or 'no keys'}")


def image_seen(nodes: Sequence[Mapping[str, Any]], reference: str) -> str:
    """Return the name of a node that has an image, or nothing."""
    digest = reference.rpartition("@")[2]
    for node in nodes:
        for image in node["status"].get("images", []):
            if any(n == reference or n.endswith(f"@{digest}") for n in image.get("names") or []):
                return node["metadata"]["name"]
    return ""


def pull_state(pod: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Return whether a pod's image was pulled, None while that is open, and what is said of it."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        waiting = status.get("state", {}).get("waiting", {})
        if waiting.get("reason") in {"ErrImagePull", "ImagePullBackOff", "InvalidImageName"}:
            return False, waiting.get("message") or waiting["reason"]
        if status.get("imageID") or not waiting:
            return True, status.get("imageID", "")
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return None, condition.get("message", "not scheduled")
    return None, "the image is being pulled"


def _selected(node: Mapping[str, Any], pool: NodePool) -> bool:
    labels = node["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, value in pool.node_selector.items())


def _untolerated(node: Mapping[str, Any], pool: NodePool) -> list[str]:
    taints = node["spec"].get("taints", [])
    return [
        f"{t['key']}:{t['effect']}"
        for t in taints
        if t["effect"] != "PreferNoSchedule"
        and not any(_tolerates(tolerance, t) for tolerance in pool.tolerations)
    ]


def _tolerates(tolerance: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if tolerance.get("effect") not in (None, "", taint["effect"]):
        return False
    if tolerance.get("operator", "Equal") == "Exists":
        return tolerance.get("key") in (None, "", taint["key"])
    return tolerance.get("key") == taint["key"] and tolerance.get("value", "") == taint.get(
        "value", ""
    )
