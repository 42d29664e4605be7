"""What recipes may ask for where several people share a cluster's launchers.

A recipe is code: it may name Python files that the trainer runs, folders, accounts, volumes and
variables. On one's own machine that is one's own affair. The chart's value ``launch.policy`` lists
what is allowed; it reaches launchers as a file, and without that file everything is.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field

from omnistage.errors import InputError
from omnistage.settings import Ask, Settings, parse_config

POLICY_FILE = Path("/etc/omnistage/policy.yaml")
"""Where a launcher pod finds the policy, from the chart's ConfigMap."""
_TITLES = {
    "trainer_arguments": "the trainer's argument",
    "own_rewards": "a reward of your own,",
    "source_folders": "the folder",
    "service_accounts": "the service account",
    "claims": "the claim",
    "secrets": "the Secret",
    "env": "the variable",
}


class Policy(Settings):
    """What recipes may ask for; null allows everything, names are shell patterns."""

    trainer_arguments: list[str] | None = Field(
        default=None, description="Arguments of ms-swift in swift_arguments."
    )
    own_rewards: bool = Field(
        default=True, description="Whether a recipe may bring rewards of its own, which are code."
    )
    source_folders: list[str] | None = Field(
        default=None, description="Folders that sources of the type folder may lie in."
    )
    service_accounts: list[str] | None = Field(
        default=None, description="ServiceAccounts of training pods."
    )
    claims: list[str] | None = Field(
        default=None, description="PersistentVolumeClaims mounted into training pods."
    )
    secrets: list[str] | None = Field(
        default=None, description="Secrets: of the store, and of the registry."
    )
    env: list[str] | None = Field(
        default=None, description="Names of variables of training pods, such as NCCL_*."
    )

    def check(self, asks: Iterable[Ask], section: str) -> None:
        """Refuse what is not allowed.

        The chart's own settings are not asked about, so their names need not be listed.

        Args:
            asks: What some settings ask for.
            section: The recipe section they are from.

        Raises:
            InputError: A line for each thing that is refused, with what is allowed.
        """
        wrong = [
            f"{section}.{ask.where}: {_TITLES[ask.what]} {ask.name!r} is not allowed on this "
            f"cluster (the chart's launch.policy.{ask.what}); allowed: {self._allowed(ask) or '-'}"
            for ask in asks
            if not self._allows(ask)
        ]
        if wrong:
            raise InputError("\n".join(wrong))

    def _allows(self, ask: Ask) -> bool:
        allowed = getattr(self, ask.what)
        if allowed is None or isinstance(allowed, bool):
            return allowed is not False
        if ask.what == "source_folders":
            real = Path(os.path.realpath(ask.name))
            return any(real.is_relative_to(os.path.realpath(folder)) for folder in allowed)
        return any(fnmatchcase(ask.name, pattern) for pattern in allowed)

    def _allowed(self, ask: Ask) -> str:
        allowed = getattr(self, ask.what)
        return ", ".join(allowed) if isinstance(allowed, list) else ""


def read_policy(path: Path | None = None) -> Policy:
    """Return the policy of a launcher pod; one that allows everything where there is no file.

    Args:
        path: Its file; by default a launcher pod's.

    Raises:
        InputError: If the file is none: nothing runs where it is not known what may.
    """
    path = path or POLICY_FILE
    if not path.is_file():
        return Policy()
    import yaml  # here and not above: every stage program starts with this module

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as e:
        raise InputError(f"{path}: the policy cannot be read: {e}") from e
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping, as the chart's value launch.policy")
    return parse_config(Policy, values, "launch.policy")
