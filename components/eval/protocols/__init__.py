"""Protocols by name: how a benchmark is asked, read and counted.

Published numbers of one model on one benchmark differ by just this: the prompt, the frames, whether
the sound is passed, decoding, the parser and what an answer counts that cannot be read. Conventions
are those of the code named in ``source``; the wording of prompts is our own, see
:attr:`Protocol.template`.
"""

from components.eval.protocols import boxes, letters, mathematics, pairs
from components.eval.protocols.protocol import OMNISTAGE, Protocol

_MODULES = (pairs, letters, boxes, mathematics)
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (OMNISTAGE, *(p for module in _MODULES for p in module.PROTOCOLS))
}
