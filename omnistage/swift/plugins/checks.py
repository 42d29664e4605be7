"""Registers omnistage's checks with ms-swift; passed to it as ``--external_plugins``."""

import omnistage.swift.checks.trainer  # noqa: F401 - registers them
