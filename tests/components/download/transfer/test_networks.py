"""Networks that no source may lead to, and proxies that want credentials."""

import base64

import pytest

from components.download.transfer.http import Http
from components.download.transfer.networks import REFUSED_VARIABLE, check_address
from components.download.transfer.remote_file import Place
from omnistage.errors import InputError
from tests.components.download.download_kit import Fault, Handler, Served, download, https, serve

METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    "address",
    [
        METADATA,
        "169.254.170.2",
        "fe80::1%eth0",
        "[fe80::1]",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "100.100.100.200",
    ],
)
def test_link_local_addresses_and_those_of_metadata_services_are_refused(address):
    with pytest.raises(InputError, match="evil.example: leads to .*, which no source may"):
        check_address(address, "evil.example")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "93.184.216.34", "::1", "name"])
def test_other_addresses_pass_unless_they_are_configured(address, monkeypatch):
    check_address(address, "x")
    monkeypatch.setenv(REFUSED_VARIABLE, "10.0.0.0/8, 172.20.0.0/16")
    if address == "10.1.2.3":
        with pytest.raises(InputError, match="10.0.0.0/8"):
            check_address(address, "x")
    else:
        check_address(address, "x")


def test_an_endpoint_that_the_cluster_itself_names_may_be_in_a_refused_network(monkeypatch):
    monkeypatch.setenv(REFUSED_VARIABLE, "10.0.0.0/8")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio.store.svc:9000")
    check_address("10.1.2.3", "minio.store.svc")
    for address, host in (("10.1.2.3", "api.store.svc"), (METADATA, "minio.store.svc")):
        with pytest.raises(InputError, match="which no source may"):
            check_address(address, host)


def test_a_list_of_networks_that_is_none_is_said(monkeypatch):
    monkeypatch.setenv(REFUSED_VARIABLE, "ten")
    with pytest.raises(InputError, match=f"{REFUSED_VARIABLE}: 'ten' is not a network"):
        check_address("10.1.2.3", "x")


@pytest.fixture
def loopback_refused(monkeypatch):
    monkeypatch.setenv(REFUSED_VARIABLE, "127.0.0.0/8")


@pytest.mark.usefixtures("loopback_refused")
def test_a_source_in_a_refused_network_is_not_asked(tmp_path, served):
    served.served.files["/a.bin"] = b"secret"
    with pytest.raises(
        InputError, match=r"a.bin: .*leads to 127.0.0.1, in the network 127.0.0.0/8"
    ):
        download(tmp_path, https(served, "a.bin"))
    assert served.served.requests == []


def test_a_redirect_into_a_refused_network_is_not_followed(tmp_path, served, monkeypatch):
    monkeypatch.setenv(REFUSED_VARIABLE, "127.0.0.2/32")
    served.served.files["/a.bin"] = b"x"
    served.served.always["/a.bin"] = Fault("redirect")
    with serve(Served(files=dict(served.served.files)), host="127.0.0.2") as elsewhere:
        served.served.elsewhere = elsewhere
        with pytest.raises(InputError, match=r"leads to 127.0.0.2"):
            download(tmp_path, https(served, "a.bin"))
        assert elsewhere.served.requests == []


class Proxy(Handler):
    """A proxy that answers itself, and wants user and password."""

    def answer(self, body: bool) -> None:
        given = self.headers.get("Proxy-Authorization", "")
        wanted = "Basic " + base64.b64encode(b"me:p@ss").decode()
        self.answer_path("/a.bin" if given == wanted else "/refused", body)


def test_credentials_of_a_proxy_are_sent(tmp_path, monkeypatch):
    with serve(Served(files={"/a.bin": b"hello"}), Proxy) as proxy:
        address = proxy.url.replace("http://", "http://me:p%40ss@")
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("no_proxy", "")
        outcome = download(
            tmp_path, {"type": "https", "files": [{"url": "http://far.example/a.bin"}]}
        )
        assert outcome.manifest.counts["bytes"] == 5
        everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert b"p@ss" not in everything
        assert b"p%40ss" not in everything


@pytest.mark.parametrize("host", [METADATA, "[fe80::1]", "2852039166", "0xa9fea9fe"])
def test_an_address_is_refused_behind_a_proxy_too(host, monkeypatch):
    with serve(Served()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(InputError, match="which no source may"):
            Http(1, 1.0).header(Place(f"http://{host}/latest/meta-data"))
        assert proxy.served.requests == []
