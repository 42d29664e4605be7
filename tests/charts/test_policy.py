"""What the chart tells launchers and the network of policies, as its golden rendering has it."""

from typing import Any

import yaml

from omnistage.policy import Policy
from tests.charts.test_charts import CHARTS

GOLDEN = CHARTS.parent / "tests" / "charts" / "golden" / "omnistage-everything.yaml"


def objects(kind: str) -> dict[str, dict[str, Any]]:
    found = [o for o in yaml.safe_load_all(GOLDEN.read_text()) if o and o["kind"] == kind]
    return {o["metadata"]["name"]: o for o in found}


def test_launchers_can_read_the_policy_and_the_networks() -> None:
    maps = objects("ConfigMap")
    policy = yaml.safe_load(maps["omnistage-launch"]["data"]["policy.yaml"])
    assert Policy.model_validate(policy) == Policy(own_rewards=False, env=["NCCL_*"])
    networks = maps["omnistage-store"]["data"]["OMNISTAGE_REFUSED_NETWORKS"]
    assert networks.split(",") == ["10.96.0.0/12", "fd00:96::/112"]


def test_no_rule_lets_pods_reach_any_address_with_a_metadata_service_among_them() -> None:
    for policy in objects("NetworkPolicy").values():
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                cidr = peer.get("ipBlock", {}).get("cidr")
                if cidr in ("0.0.0.0/0", "::/0"):
                    cut = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}[cidr]
                    assert cut in peer["ipBlock"]["except"]
