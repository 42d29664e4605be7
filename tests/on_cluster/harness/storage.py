"""What pods of the tests read and write: this machine's files through claims, and an S3 store."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from mypy_boto3_s3 import S3Client

from omnistage.cluster.settings import ClaimMount
from tests.on_cluster.harness.cluster import REPOSITORY, ClusterError


def host_folders() -> dict[str, Path]:
    """Return the folders that ``local/host:1`` needs, by the name of their claim.

    They are mounted where this machine has them, so that a virtual environment works unchanged.
    """
    folders = {"host-usr": Path("/usr"), "host-repository": REPOSITORY}
    interpreter = Path(sys.executable).resolve().parents[1]
    for name, folder in (("host-python", interpreter), ("host-venv", Path(sys.prefix))):
        if not any(folder.is_relative_to(other) for other in folders.values()):
            folders[name] = folder
    return folders


def host_mounts() -> list[ClaimMount]:
    """Return the claims of a pod that runs ``local/host:1``, for LaunchSettings.volumes."""
    return [
        ClaimMount(claim=name, mount_path=str(folder), read_only=True)
        for name, folder in host_folders().items()
    ]


def pod_volumes(mounts: list[ClaimMount]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a pod and the volumeMounts of its container."""
    volumes = [
        {"name": one.claim, "persistentVolumeClaim": {"claimName": one.claim}} for one in mounts
    ]
    places = [
        {"name": one.claim, "mountPath": one.mount_path, "readOnly": one.read_only}
        for one in mounts
    ]
    return volumes, places


def claim(namespace: str, name: str, folder: Path, read_only: bool = False) -> list[dict[str, Any]]:
    """Return a PersistentVolume of a folder of this machine and the claim that is bound to it.

    The restricted pod standard forbids hostPath volumes in pods, not in what they claim. The
    volume carries the label omnistage.dev/namespace, by which it is deleted with its namespace.
    """
    mode = "ReadOnlyMany" if read_only else "ReadWriteMany"
    volume = f"{namespace}-{name}"
    size = {"storage": "1Ti"}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume, "labels": {"omnistage.dev/namespace": namespace}},
            "spec": {
                "capacity": size,
                "accessModes": [mode],
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": {"namespace": namespace, "name": name},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "accessModes": [mode],
                "storageClassName": "",
                "volumeName": volume,
                "resources": {"requests": size},
            },
        },
    ]


def host_claims(namespace: str) -> list[dict[str, Any]]:
    """Return the volumes and claims of a namespace for pods that run ``local/host:1``."""
    return [
        one
        for name, folder in host_folders().items()
        for one in claim(namespace, name, folder, read_only=True)
    ]


@dataclass(frozen=True)
class S3:
    """An S3 endpoint with one bucket, under the same URL for pods and for this machine.

    Attributes:
        url: The endpoint.
        bucket: Its bucket.
    """

    url: str
    bucket: str = "omnistage"
    key: str = "omnistage"
    secret: str = "omnistage-secret"

    @property
    def credentials(self) -> dict[str, str]:
        """Return the variables of the Secret omnistage-store."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    @property
    def settings(self) -> dict[str, str]:
        """Return the variables of the ConfigMap omnistage-store."""
        return {"AWS_ENDPOINT_URL_S3": self.url, "AWS_REGION": "us-east-1"}

    @property
    def environment(self) -> dict[str, str]:
        """Return all variables that a process of this machine needs for this store."""
        return {**os.environ, **self.credentials, **self.settings}

    def client(self) -> S3Client:
        """Return a client of the endpoint."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )

    def objects(self, namespace: str, name: str = "omnistage-store") -> list[dict[str, Any]]:
        """Return the Secret and the ConfigMap from which pods take this store."""
        metadata = {"name": name, "namespace": namespace}
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata,
                "stringData": self.credentials,
            },
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": self.settings,
            },
        ]


@contextlib.contextmanager
def s3_server(address: str) -> Iterator[S3]:
    """Serve S3 on this address, which pods reach too, at a free port.

    Raises:
        ClusterError: If it does not answer within half a minute.
    """
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    store = S3(f"http://{address}:{port}")
    moto = Path(sys.prefix) / "bin/moto_server"
    server = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", str(moto), "-H", address, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _make_bucket(store, server)
        yield store
    finally:
        server.kill()
        server.wait()


def _make_bucket(store: S3, server: subprocess.Popen[bytes]) -> None:
    _, address = store.url.split("//")
    host, port = address.split(":")
    for _ in range(150):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            store.client().create_bucket(Bucket=store.bucket)
            return
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise ClusterError(f"no S3 endpoint at {store.url}: moto_server exit {server.poll()}")
