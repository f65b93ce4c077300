"""Settings from the environment."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from careca.settings import ModelServiceSettings, ServiceSettings, load, public_values, variable_name


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for field in ModelServiceSettings.model_fields:
        monkeypatch.delenv(variable_name(field), raising=False)


def test_the_defaults_listen_on_this_machine_only_and_need_no_redis():
    settings = load(ModelServiceSettings)

    assert settings.host == "127.0.0.1"
    assert settings.redis_url == ""
    assert settings.max_waiting == 8
    assert (settings.cache_ttl_seconds, settings.cache_max_entries) == (86_400, 100)


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


def test_a_path_may_begin_at_home(monkeypatch):
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


def test_a_list_that_is_no_json_is_named_and_the_process_ends(monkeypatch, capsys):
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


def test_every_setting_is_explained_in_a_sentence():
    for name, field in ModelServiceSettings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_settings_do_not_change_once_they_are_read():
    settings = ServiceSettings()

    with pytest.raises(ValidationError):
        settings.port = 1
