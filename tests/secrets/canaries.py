"""Secrets of every kind, planted in the environment and looked for in what is written."""

from pathlib import Path

import pytest

SECRETS = {
    "OMNISTAGE_REWARD_URL": "http://judge:canary-reward-1@127.0.0.1:9/score?key=canary-reward-2",
    "HTTPS_PROXY": "http://me:canary-proxy%2B3@proxy:3128",
    "HF_TOKEN": "hf_canary4canary4",
    "MODELSCOPE_API_TOKEN": "ms-canary-5",
    "AWS_ACCESS_KEY_ID": "AKIACANARY6",
    "AWS_SECRET_ACCESS_KEY": "canary/seven+seven",
    "AWS_SESSION_TOKEN": "canary-eight==",
    "OMNISTAGE_JUDGE_PASSWORD": "canary-nine",
}
QUERY = "X-Amz-Signature=canary-10%2Bx&token=canary-11"
LOGIN = "cdn:canary-12"

DYING_CHILD = """
import os, sys
if any(w in a for a in sys.orig_argv for w in ("swift", "preflight", "eval", "torch")):
    for name, value in os.environ.items():
        print(name, value)
    print("GET " + os.environ["OMNISTAGE_REWARD_URL"] + " failed", flush=True)
    os._exit(1)
"""
"""As ``sitecustomize``: a training process that prints all it knows, and fails."""


def leaks(data: str | bytes) -> list[str]:
    """Return what of the secrets is in some text."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return [word for word in text.replace("/", " ").split() if "canary" in word.lower()]


def written(*folders: Path) -> bytes:
    """Return every byte below folders: names of files, and what is in them."""
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    return b" ".join(str(p).encode() + b" " + p.read_bytes() for p in files)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant the secrets in the environment; the loopback is reached without the proxy."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
