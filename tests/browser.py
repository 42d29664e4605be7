"""A headless Chromium, driven by its DevTools protocol over a pipe."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
"""The browser on this machine, if there is one."""


class Page:
    """One page of a running browser."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, os.fdopen(read, "rb")
        self._sent, self._session, self._loaded = 0, "", False
        self.requests: list[str] = []
        """Addresses that the page asked for, its own file among them."""
        self.messages: list[str] = []
        """What stands in the console, and errors that no script caught."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events on the way are noted."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it is there."""
        self._loaded = False
        self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._next()

    def run(self, script: str) -> Any:
        """Return the value of an expression; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def _next(self) -> dict[str, Any]:
        whole = bytearray()
        while (byte := self._read.read(1)) not in (b"\0", b""):
            whole += byte
        if not whole:
            raise RuntimeError("the browser ended")
        answer = json.loads(whole)
        self._note(answer.get("method", ""), answer.get("params", {}))
        return answer

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(str(event["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(event["exceptionDetails"]["text"])
        elif method == "Log.entryAdded":
            self.messages.append(event["entry"]["text"])
        elif method == "Page.loadEventFired":
            self._loaded = True


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start a browser, which ends with the block.

    Args:
        profile: Folder for what it keeps.
    """
    assert CHROMIUM
    to_browser, ours = os.pipe()
    theirs, from_browser = os.pipe()[::-1]
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--mute-audio"]
    command += ["--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]

    def pipes() -> None:  # the protocol's ends are 3 and 4
        os.dup2(to_browser, 63)
        os.dup2(theirs, 64)
        os.dup2(63, 3)
        os.dup2(64, 4)

    process = subprocess.Popen(
        command, preexec_fn=pipes, pass_fds=(3, 4), stderr=subprocess.DEVNULL
    )
    os.close(to_browser)
    os.close(theirs)
    try:
        yield Page(ours, from_browser)
    finally:
        process.terminate()
        process.wait()
        os.close(ours)
