"""Certificates of a cluster that lives for one test run, and the kubeconfigs made of them."""

import base64
import datetime as dt
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NOW = dt.datetime.now(dt.UTC)
_VALID = {"not_before": _NOW - dt.timedelta(hours=1), "not_after": _NOW + dt.timedelta(days=7)}


class Authority:
    """A certificate authority that issues into one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name, None)
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_VALID["not_before"])
            .not_valid_after(_VALID["not_after"])
        )

    def issue(
        self,
        file: str,
        user: str,
        group: str | None = None,
        addresses: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
    ) -> tuple[Path, Path]:
        """Write ``<file>.crt`` and ``<file>.key`` for a user of the API or a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = self._builder(_subject(user, group), key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        crt, private = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.touch(mode=0o600)
        private.write_bytes(_pem(key))
        return crt, private

    def kubeconfig(self, file: Path, server: str, user: str, group: str | None = None) -> Path:
        """Write a kubeconfig, all inline, for a user of the API."""
        crt, key = self.issue(file.stem, user, group)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "omnistage",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _base64(self.file),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _base64(crt),
                        "client-key-data": _base64(key),
                    },
                }
            ],
            "contexts": [{"name": "omnistage", "context": {"cluster": "omnistage", "user": user}}],
            "current-context": "omnistage",
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        return file


def service_account_key(folder: Path) -> Path:
    """Write the key that signs the tokens of service accounts."""
    file = folder / "service-accounts.key"
    file.touch(mode=0o600)
    file.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    return file


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _subject(name: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)
