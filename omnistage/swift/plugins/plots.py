"""Has ms-swift draw no pictures of its curves; passed to it as ``--external_plugins``.

It draws one for each of dozens of curves after a training, in ten seconds of a core, and the report
draws its own.
"""

from typing import Any

import swift.pipelines.train.sft as program


def _draw_none(*_: Any) -> None:
    """Stand in for ``plot_images``."""


program.plot_images = _draw_none
