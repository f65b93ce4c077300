"""Settings from the environment."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from careca.settings import ModelServiceSettings, ServiceSettings, load, public_values, variable_name
from careca_gateway.settings import GatewaySettings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for field in (*ModelServiceSettings.model_fields, *GatewaySettings.model_fields):
        monkeypatch.delenv(variable_name(field), raising=False)


def test_the_defaults_listen_on_this_machine_only_and_need_no_redis():
    settings = load(ModelServiceSettings)

    assert settings.host == "127.0.0.1"
    assert settings.redis_url == ""
    assert settings.max_waiting == 8
    assert (settings.cache_ttl_seconds, settings.cache_max_entries) == (86_400, 100)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.example"])
@pytest.mark.parametrize("settings_class", [ModelServiceSettings, GatewaySettings])
def test_other_machines_are_refused_without_tls_and_authentication(settings_class, host, capsys, monkeypatch):
    monkeypatch.setenv("CARECA_HOST", host)

    with pytest.raises(SystemExit):
        load(settings_class)

    complaint = capsys.readouterr().err
    assert all(name in complaint for name in ("CARECA_TLS_CERT_FILE", "CARECA_ALLOW_INSECURE", host))
    assert ("CARECA_TOKENS_FILE" in complaint) == (settings_class is GatewaySettings)


@pytest.mark.parametrize(
    ("settings_class", "variables"),
    [
        (ModelServiceSettings, {"TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k", "TLS_CLIENT_CA_FILE": "a"}),
        (GatewaySettings, {"TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k", "TLS_CLIENT_CA_FILE": "a"}),
        (GatewaySettings, {"TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k", "TOKENS_FILE": "t"}),
        (GatewaySettings, {"ALLOW_INSECURE": "true"}),
        (ModelServiceSettings, {"HOST": "127.0.0.2"}),
        (ModelServiceSettings, {"HOST": "localhost"}),
        (ModelServiceSettings, {"HOST": "::1"}),
    ],
)
def test_other_machines_are_accepted_with_mutual_tls_or_an_explicit_setting(settings_class, variables, monkeypatch):
    for name, value in ({"HOST": "0.0.0.0"} | variables).items():
        monkeypatch.setenv(f"CARECA_{name}", value)

    assert load(settings_class)


@pytest.mark.parametrize(
    ("settings_class", "variables"),
    [
        (ModelServiceSettings, {"HOST": "0.0.0.0", "TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k"}),
        (GatewaySettings, {"HOST": "0.0.0.0", "TOKENS_FILE": "t"}),
        (ModelServiceSettings, {"TLS_CERT_FILE": "c"}),
        (ModelServiceSettings, {"TLS_KEY_FILE": "k"}),
        (ModelServiceSettings, {"TLS_CLIENT_CA_FILE": "a"}),
        (GatewaySettings, {"SERVICES_CERT_FILE": "c", "SERVICES_CA_FILE": "a"}),
        (GatewaySettings, {"SERVICES_CERT_FILE": "c", "SERVICES_KEY_FILE": "k"}),
    ],
)
def test_incomplete_tls_settings_are_refused(settings_class, variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(f"CARECA_{name}", value)

    with pytest.raises(SystemExit):
        load(settings_class)


def test_the_environment_overrides_defaults(monkeypatch):
    monkeypatch.setenv("CARECA_PORT", "50052")
    monkeypatch.setenv("CARECA_REFLECTION", "false")
    monkeypatch.setenv("CARECA_SPOOL_DIR", "/var/spool")

    settings = load(ModelServiceSettings)

    assert (settings.port, settings.reflection, settings.spool_dir) == (50052, False, Path("/var/spool"))


def test_an_empty_variable_is_the_default(monkeypatch):
    monkeypatch.setenv("CARECA_SPOOL_DIR", "")
    monkeypatch.setenv("CARECA_PORT", "")

    settings = load(ModelServiceSettings)

    assert (settings.port, settings.spool_dir) == (0, None)


def test_a_path_may_start_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/someone")
    monkeypatch.setenv("CARECA_SPOOL_DIR", "~/spool")

    settings = load(ModelServiceSettings)

    assert settings.spool_dir == Path("/srv/someone/spool")
    assert settings.models_dir == Path("/srv/someone/.cache/careca/models")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CARECA_PORT", "70000"),
        ("CARECA_PORT", "gateway"),
        ("CARECA_METRICS_PORT", "-2"),
        ("CARECA_DEVICE", "tpu"),
        ("CARECA_LOG_LEVEL", "loud"),
        ("CARECA_CACHE_TTL_SECONDS", "0"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_the_process_ends(variable, value, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)

    with pytest.raises(SystemExit) as end:
        load(ModelServiceSettings)

    assert end.value.code == 2
    complaint = capsys.readouterr().err
    assert f"{variable} is {value!r}: " in complaint
    assert "Traceback" not in complaint


def test_a_list_that_is_not_json_is_named_and_the_process_ends(monkeypatch, capsys):
    class WithList(ServiceSettings):
        targets: list[str] = Field(default=[], description="Some targets.")

    monkeypatch.setenv("CARECA_TARGETS", "not json")

    with pytest.raises(SystemExit) as end:
        load(WithList)

    assert end.value.code == 2
    assert "targets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@redis:6379/0", "redis://:***@redis:6379/0"),
        ("rediss://user:se@cret@redis:6379/0", "rediss://user:***@redis:6379/0"),
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        ("", ""),
    ],
)
def test_passwords_never_reach_the_log(url, shown):
    values = public_values(ModelServiceSettings(redis_url=url))

    assert values["redis_url"] == shown
    assert "secret" not in str(values)


def test_every_setting_has_a_description():
    for name, field in ModelServiceSettings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_settings_do_not_change_once_they_are_read():
    settings = ServiceSettings()

    with pytest.raises(ValidationError):
        settings.port = 1
