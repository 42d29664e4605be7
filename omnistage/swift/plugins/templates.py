"""Registers omnistage's templates with ms-swift; passed to it as ``--external_plugins``.

In a folder of its own, because ms-swift puts that folder in front of ``sys.path``.
"""

import omnistage.swift.template  # noqa: F401 - registers them
