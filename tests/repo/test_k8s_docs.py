"""What docs/operations.md tells to apply can be built and obeys the rules; what it names is there."""

import re
from pathlib import Path

import pytest
import yaml

import check
from k8s_check import settings
from k8s_check.build import FOLDER, kustomize, read
from k8s_check.manifests import Manifests
from k8s_check.network import ARROWS
from k8s_check.references import OPERATOR_SECRETS, OPTIONAL_SECRETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
OVERLAYS = [
    "\n".join(line.removeprefix(indent) for line in block.splitlines())
    for indent, block in re.findall(r"^( *)```yaml\n(.*?)^ *```", PAGE, flags=re.MULTILINE | re.DOTALL)
]
# A registry of the reader's own may have any tag; what matters is that there is one.
RULES = [rule for rule in check.RULES if rule.__name__ != "images"]


def test_overlays_are_shown() -> None:
    assert len(OVERLAYS) >= 2


@pytest.mark.parametrize("text", OVERLAYS)
def test_an_overlay_that_is_shown_can_be_built_and_obeys_the_rules(text: str, tmp_path: Path) -> None:
    (tmp_path / "careca").symlink_to(ROOT)
    (tmp_path / "kustomization.yaml").write_text(text)
    components = {Path(each).name for each in yaml.safe_load(text).get("components", ())}

    manifests = Manifests("shown", read(kustomize(tmp_path)), frozenset(components))

    assert [problem for rule in RULES for problem in rule(manifests)] == []
    for generated in yaml.safe_load(text).get("configMapGenerator", ()):
        environment = manifests.workload(generated["name"]).main.environment
        assert set(generated["literals"]) <= {f"{name}={value}" for name, value in environment.items()}


def test_every_overlay_and_component_is_described() -> None:
    folders = [f"overlays/{each.name}" for each in (FOLDER / "overlays").iterdir()]
    folders += [f"components/{each.name}" for each in (FOLDER / "components").iterdir()]

    assert [each for each in folders if f"`{each}`" not in PAGE] == ["components/several-gateways"]


def test_every_secret_is_described() -> None:
    assert [name for name in (*OPERATOR_SECRETS, *OPTIONAL_SECRETS) if f"`{name}`" not in PAGE] == []


def test_every_setting_and_metric_that_is_named_is_there() -> None:
    variables = {settings.variable_name(name) for each in settings.CLASSES.values() for name in each.model_fields}
    named = set(re.findall(r"\bCARECA_[A-Z_]+[A-Z]\b", PAGE))
    metrics = {*settings.gateway_metrics(), "careca_tls_certificate_expiry_timestamp_seconds"}

    assert named - variables == set()
    assert set(re.findall(r"\bcareca_[a-z_]+[a-z]\b(?!\.[a-z])", PAGE)) - metrics == set(), "modules have a dot"


def test_the_drawing_has_every_part_that_arrows_join() -> None:
    drawing = PAGE.split("```")[1]
    own = {part for source, target, _ in ARROWS for part in (source, target)}

    assert {part for part in own if part not in drawing} == {"monitoring", "dns", "internet (IPv6)"}
    assert "Prometheus" in drawing


def test_monitoring_has_the_last_word() -> None:
    assert re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)[-1] == "Monitoring"
