"""``omnistage doctor --cluster``: checks a cluster, as a launcher pod or with a kubeconfig.

What these credentials may not read is a warning, not a failure: the launcher's own account, with
which ``helm test`` runs this, reads little beyond its jobs.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omnistage.cluster.api import CONFIG_MAPS, PODS, Api, ApiError, Kind, Resource
from omnistage.cluster.jobs.backends import backend_of, custom_resources
from omnistage.cluster.jobs.pod import SECRET_KEYS
from omnistage.cluster.launch import read_defaults
from omnistage.cluster.settings import (
    LaunchSettings,
    NodePool,
    merge_settings,
)
from omnistage.doctor.check import Check, fail, ok, warn
from omnistage.doctor.machine import store_check
from omnistage.doctor.rules import (
    claim_check,
    image_seen,
    keys_check,
    operator_check,
    pool_check,
    pull_state,
    queue_check,
    rights,
    rights_check,
)
from omnistage.errors import InputError, OmnistageError

_PATIENCE = 20.0
_NODES = Resource("", "v1", "nodes")
_NAMESPACES = Resource("", "v1", "namespaces")
_SECRETS = Resource("", "v1", "secrets")
_ACCOUNTS = Resource("", "v1", "serviceaccounts")
_CLAIMS = Resource("", "v1", "persistentvolumeclaims")
_DEPLOYMENTS = Resource("apps", "v1", "deployments")
_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses")
_CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_QUEUES = Resource("kueue.x-k8s.io", "v1beta1", "localqueues")
_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews")


@dataclass(frozen=True)
class Wanted:
    """What the cluster is looked at for."""

    namespace: str | None = None
    """Where jobs run; by default the pod's or the kubeconfig's."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a recipe's section ``cluster``, over the cluster's own."""
    images: Mapping[str, str] = field(default_factory=dict)
    """``launcher`` and ``trainer``."""
    store: str | None = None
    launch_config: str = "omnistage-launch"
    account: str = "omnistage-launcher"
    """ServiceAccount of launcher pods."""
    pull_seconds: float = 300
    """How long an image may take to be pulled."""


class Doctor:
    """Looks at one namespace of one cluster.

    Args:
        api: The cluster.
        wanted: What it is looked at for.
    """

    def __init__(self, api: Api, wanted: Wanted) -> None:
        self.api = api
        self.wanted = wanted
        self.namespace = wanted.namespace or api.own_namespace()

    def checks(self) -> Iterator[Check]:
        """Yield the checks, in the order in which what is wrong should be mended."""
        try:
            may = self.api.can_i("get", "", "pods", self.namespace)
        except OmnistageError as e:
            yield fail("api", str(e), "check `kubectl cluster-info` and KUBECONFIG")
            return
        yield ok("api", f"answers, namespace {self.namespace}")
        if not may:
            yield warn("api", f"you may not get pods in {self.namespace}", "see the line rbac")
        yield from self._look("namespace", self._namespace)
        try:
            settings = self._settings()
        except OmnistageError as e:
            yield fail("settings", str(e), "mend launch.settings of the chart, or the recipe")
            return
        yield ok("settings", f"{settings.backend}, {settings.nodes} × {settings.gpus_per_node}")
        for name, version in custom_resources(settings).items():
            yield from self._look(f"crd {name}", lambda n=name, v=version: self._custom(n, v))
        yield from self._look(
            "operator", lambda: operator_check(self.api.list(_DEPLOYMENTS), settings)
        )
        yield from self._look("gpus", lambda: pool_check(self.api.list(_NODES), settings))
        if runtime := backend_of(settings).runtime(settings):
            yield from self._look("runtime", lambda: self._there(*runtime))
        if settings.queue:
            yield from self._look(
                "queue", lambda: queue_check(settings.queue, self._get(_QUEUES, settings.queue))
            )
        for volume in settings.volumes:
            yield from self._look(f"claim {volume.claim}", lambda v=volume: self._claim(v.claim))
        yield from self._objects(settings)
        yield from self._look("rbac", lambda: self._rights(settings))
        for name, reference in self.wanted.images.items():
            pool = settings.pool() if name == "trainer" else NodePool()
            yield from self._look(
                f"image {name}", lambda n=name, r=reference, p=pool: self._image(n, r, p, settings)
            )
        yield self._store()

    def _look(self, name: str, call: Callable[[], Check]) -> Iterator[Check]:
        """Yield a check, or why it could not be made."""
        try:
            yield call()
        except ApiError as e:
            if e.status != 403:
                yield fail(name, str(e), "the API server's own words")
                return
            yield warn(name, "you may not look", "ask somebody who may: omnistage doctor --cluster")
        except OmnistageError as e:
            yield fail(name, str(e), "")

    def _get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        return self.api.get(kind, self.namespace, name)

    def _namespace(self) -> Check:
        found = self.api.get(_NAMESPACES, "", self.namespace)
        if found is None:
            return fail("namespace", f"no {self.namespace}", "make it, or give --namespace")
        label = "pod-security.kubernetes.io/enforce"
        level = found["metadata"].get("labels", {}).get(label, "none")
        return ok("namespace", f"{self.namespace}, enforces pod standard {level}")

    def _settings(self) -> LaunchSettings:
        """Return the settings as a launcher pod of this namespace would see them."""
        try:
            own = read_defaults(self.api, self.namespace, self.wanted.launch_config)
        except ApiError as e:
            if e.status != 403:
                raise
            own = {}
        return merge_settings(own, self.wanted.settings)

    def _custom(self, name: str, version: str) -> Check:
        """Check a kind of object: by its CRD or, without the right to read that, by a list."""
        group = name.partition(".")[2]
        advice = "install the chart omnistage-platform, or another cluster.backend"
        try:
            found = self.api.get(_CRDS, "", name)
        except ApiError as e:
            if e.status != 403:
                raise
            try:
                kind = Resource(group, version, name.partition(".")[0])
                self.api.list(kind, self.namespace)
            except ApiError as listed:
                if listed.status == 404:
                    return fail(f"crd {name}", f"{version} is not served", advice)
                raise
            return ok(f"crd {name}", f"{version} is served")
        if found is None:
            return fail(f"crd {name}", "not there", advice)
        served = [v["name"] for v in found["spec"]["versions"] if v["served"]]
        if version not in served:
            return fail(f"crd {name}", f"serves {', '.join(served)}, not {version}", advice)
        return ok(f"crd {name}", f"serves {', '.join(served)}")

    def _there(self, kind: Kind, name: str) -> Check:
        if self._get(kind, name) is None:
            advice = "set trainingRuntime.create in the chart, or cluster.training_runtime"
            return fail("runtime", f"no TrainingRuntime {name}", advice)
        return ok("runtime", name)

    def _claim(self, name: str) -> Check:
        found = self._get(_CLAIMS, name)
        try:
            classes = [c["metadata"]["name"] for c in self.api.list(_CLASSES)]
        except ApiError:
            classes = None
        return claim_check(name, found, classes)

    def _objects(self, settings: LaunchSettings) -> Iterator[Check]:
        if settings.store_secret:
            yield from self._look(
                f"secret {settings.store_secret}",
                lambda: self._keys("secret", _SECRETS, settings.store_secret, SECRET_KEYS[:2]),
            )
        if settings.store_config:
            yield from self._look(
                f"config map {settings.store_config}",
                lambda: self._store_config(settings.store_config),
            )
        for name in settings.image_pull_secrets:
            yield from self._look(
                f"secret {name}",
                lambda name=name: self._keys("secret", _SECRETS, name, (".dockerconfigjson",)),
            )
        for name in (self.wanted.account, settings.service_account):
            yield from self._look(f"account {name}", lambda name=name: self._account(name))

    def _keys(self, kind: str, of: Kind, name: str, want: Sequence[str]) -> Check:
        found = self._get(of, name)
        have = None if found is None else list(found.get("data") or {})
        return keys_check(kind, name, have, want)

    def _store_config(self, name: str) -> Check:
        if self._get(CONFIG_MAPS, name) is None:
            advice = "right for S3 of AWS itself; otherwise set store.s3.endpoint in the chart"
            return warn(f"config map {name}", "not there", advice)
        return self._keys("config map", CONFIG_MAPS, name, ())

    def _account(self, name: str) -> Check:
        if self._get(_ACCOUNTS, name) is None:
            return fail(f"account {name}", "not there", "install the chart omnistage")
        return ok(f"account {name}", "there")

    def _rights(self, settings: LaunchSettings) -> Check:
        """Check the launcher's rights; one's own where one may not ask about others."""
        needed = rights(settings)
        account = f"system:serviceaccount:{self.namespace}:{self.wanted.account}"
        try:
            refused = [r for r in needed if not self._may(account, *r)]
        except ApiError as e:
            if e.status != 403:
                raise
            account = "this account"
            refused = [r for r in needed if not self.api.can_i(r[0], r[1], r[2], self.namespace)]
        return rights_check(account, refused, len(needed))

    def _may(self, account: str, verb: str, group: str, resource: str) -> bool:
        plural, _, sub = resource.partition("/")
        namespace = account.split(":")[2]
        spec = {
            "user": account,
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
            "resourceAttributes": {
                "verb": verb,
                "group": group,
                "resource": plural,
                "subresource": sub,
                "namespace": self.namespace,
            },
        }
        return bool(self.api.create(_REVIEWS, "", {"spec": spec})["status"]["allowed"])

    def _image(self, name: str, reference: str, pool: NodePool, settings: LaunchSettings) -> Check:
        """Look for an image on the nodes, else have one pull it for a pod that ends at once."""
        try:
            node = image_seen(self.api.list(_NODES), reference)
        except ApiError as e:
            if e.status != 403:
                raise
            node = ""
        if node:
            return ok(f"image {name}", f"on node {node}")
        if not self.api.can_i("create", "", "pods", self.namespace):
            return warn(
                f"image {name}",
                "on no node, and you may not create the pod that would pull it",
                "ask somebody who may: omnistage doctor --cluster --image",
            )
        return self._pull(name, reference, pool, settings)

    def _pull(self, name: str, reference: str, pool: NodePool, settings: LaunchSettings) -> Check:
        pod = f"omnistage-doctor-{uuid.uuid4().hex[:8]}"
        self.api.create(PODS, self.namespace, pull_pod(pod, reference, pool, settings))
        began, said = time.monotonic(), ""
        try:
            while time.monotonic() - began < self.wanted.pull_seconds:
                pulled, said = pull_state(self.api.get(PODS, self.namespace, pod) or {})
                if pulled:
                    return ok(f"image {name}", f"pulled in {time.monotonic() - began:.0f} s")
                if pulled is False:
                    advice = "check the reference, and cluster.image_pull_secrets"
                    return fail(f"image {name}", said, advice)
                time.sleep(1)
        finally:
            self.api.delete(PODS, self.namespace, pod)
        waited = f"not pulled in {self.wanted.pull_seconds:g} s: {said}"
        return warn(f"image {name}", waited, "give it more time with --pull-timeout")

    def _store(self) -> Check:
        if self.wanted.store is None:
            return warn("store", "not looked at", "give --store s3://… or file:///store")
        return store_check(self.wanted.store)


def check_cluster(wanted: Wanted) -> Iterator[Check]:
    """Check a cluster.

    Args:
        wanted: What it is looked at for.
    """
    try:
        # An API server that does not answer is what is looked for here, not to be waited out.
        api = Api.connect(lambda _: None, _PATIENCE)
    except InputError as e:
        yield fail("api", str(e), "run this in a pod, or set KUBECONFIG")
        return
    yield from Doctor(api, wanted).checks()


def pull_pod(name: str, reference: str, pool: NodePool, settings: LaunchSettings) -> dict[str, Any]:
    """Return a pod that does nothing but have its image pulled.

    Args:
        name: Of the pod.
        reference: Of the image.
        pool: Nodes that it may run on.
        settings: Pull secrets and user.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "omnistage",
                "app.kubernetes.io/component": "doctor",
            },
            "annotations": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 3600,
            "automountServiceAccountToken": False,
            "nodeSelector": pool.node_selector,
            "tolerations": pool.tolerations,
            "affinity": pool.affinity,
            "imagePullSecrets": [{"name": s} for s in settings.image_pull_secrets],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": settings.run_as_user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "image",
                    "image": reference,
                    "command": ["true"],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "16Mi"},
                        "limits": {"cpu": "100m", "memory": "64Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
