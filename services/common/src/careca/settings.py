"""Settings that services share, read from environment variables with the prefix ``CARECA_``.

Each service has a subclass with its own default ports. Only these modules read the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from careca.auth.loopback import is_loopback
from careca.telemetry import logs

if TYPE_CHECKING:
    from careca.auth.tls import TlsFiles

PREFIX = "CARECA_"
"""The prefix of every environment variable of Careca."""

HIDDEN = "***"
"""Replaces passwords in logs."""

ExpandedPath = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path in which a leading ``~`` is replaced by the home of the user."""

S = TypeVar("S", bound=BaseSettings)

_CONFIG = SettingsConfigDict(
    env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
)


def port_field(default: int) -> Any:
    """Returns the field of the port for calls, with the default of one service."""
    return Field(default=default, ge=0, le=65535, description="Port for gRPC calls; 0 takes any free port.")


def metrics_port_field(default: int) -> Any:
    """Returns the field of the port for metrics, with the default of one service."""
    text = "Port for Prometheus metrics; 0 takes any free port, -1 serves no metrics."
    return Field(default=default, ge=-1, le=65535, description=text)


class ModelStoreSettings(BaseSettings):
    """The settings of the model store."""

    model_config = _CONFIG

    models_dir: ExpandedPath = Field(
        default=Path("~/.cache/careca/models"),
        description="Folder that holds the models' weights, one folder per model; `careca models pull` fills it.",
    )


class ServerSettings(BaseSettings):
    """The settings of every server. Each has its own defaults for ``port`` and ``metrics_port``."""

    model_config = _CONFIG

    _HOW_TO_AUTHENTICATE: ClassVar[str] = "set CARECA_TLS_CERT_FILE, CARECA_TLS_KEY_FILE and CARECA_TLS_CLIENT_CA_FILE"

    host: str = Field(
        default="127.0.0.1", description="Address to listen on for calls and metrics; 0.0.0.0 is every interface."
    )
    port: int = port_field(0)
    metrics_port: int = metrics_port_field(0)
    log_level: logs.Level = Field(
        default="info", description="Lowest level that is logged: debug, info, warning or error."
    )
    log_format: logs.Format = Field(
        default="auto",
        description="Format of log lines: json, console, or auto: console in a terminal, json elsewhere.",
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="Seconds that calls in flight may take to finish after SIGTERM."
    )
    otlp_endpoint: str = Field(
        default="",
        description="Where to send traces (OTLP over gRPC), such as http://collector:4317; empty sends none.",
    )
    tls_cert_file: ExpandedPath | None = Field(
        default=None,
        description="PEM file with the service's certificate and its intermediate certificates; may be replaced at any "
        "time. Empty serves without TLS.",
    )
    tls_key_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the certificate's private key, without a password."
    )
    tls_client_ca_file: ExpandedPath | None = Field(
        default=None,
        description="PEM file with the authorities that callers' certificates must be signed by; empty asks for none.",
    )
    allow_insecure: bool = Field(
        default=False,
        description="Whether other machines may call without TLS or without authentication.",
    )

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers must authenticate."""
        return self.tls_client_ca_file is not None

    @property
    def tls(self) -> TlsFiles | None:
        """The TLS files to serve with, ``None`` without TLS. Raises ``PreconditionFailed`` if they cannot be used."""
        if self.tls_cert_file is None:
            return None
        from careca.auth.tls import TlsFiles

        return TlsFiles(certificate=self.tls_cert_file, key=self.tls_key_file, authority=self.tls_client_ca_file)

    @model_validator(mode="after")
    def _check_tls_is_complete(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("CARECA_TLS_CERT_FILE and CARECA_TLS_KEY_FILE must be set together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("CARECA_TLS_CLIENT_CA_FILE needs CARECA_TLS_CERT_FILE")
        return self

    @model_validator(mode="after")
    def _check_remote_access_is_protected(self) -> Self:
        if self.allow_insecure or is_loopback(self.host) or (self.tls_cert_file and self.authenticates_callers):
            return self
        raise ValueError(
            f"CARECA_HOST is {self.host!r}, which other machines can reach: {self._HOW_TO_AUTHENTICATE}, or set "
            "CARECA_ALLOW_INSECURE=true if access is restricted in another way"
        )


class ServiceSettings(ServerSettings):
    """The settings of every gRPC service."""

    reflection: bool = Field(
        default=True, description="Whether the service lists its methods (gRPC reflection), for tools such as grpcurl."
    )
    health: bool = Field(default=True, description="Whether the service answers gRPC health checks on its main port.")
    health_port: int = Field(
        default=-1,
        ge=-1,
        le=65535,
        description="Extra port for health checks only, without TLS, for probes that do not support TLS; -1 is none.",
    )


class ModelServiceSettings(ServiceSettings, ModelStoreSettings):
    """The additional settings of a service that runs a model."""

    redis_url: str = Field(
        default="", description="Redis for cached results, such as redis://localhost:6379/0; empty caches nothing."
    )
    cache_ttl_seconds: float = Field(default=86_400.0, gt=0, description="Seconds that a result stays in the cache.")
    cache_max_entries: int = Field(
        default=100, ge=1, description="Most results in the cache; the least recently used is removed first."
    )
    cache_timeout_seconds: float = Field(
        default=0.25, gt=0, le=5, description="Seconds to wait for Redis before a lookup counts as a miss."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device to compute on: cpu, cuda, or auto: a GPU if there is one."
    )
    device_index: int = Field(
        default=0, ge=0, description="Index of the GPU to compute on, from 0; a process uses one GPU."
    )
    threads: int = Field(
        default=0, ge=0, description="CPU threads of the model; 0 is one for each processor that the process may use."
    )
    max_waiting: int = Field(
        default=8,
        ge=0,
        description="The model works on this many tasks and one more at the same time; more are refused, with a time "
        "after which to retry.",
    )
    max_live_windows: int = Field(
        default=64,
        ge=1,
        description="Windows of live audio in hand at the same time, beside the tasks; more are refused. A session has "
        "at most one at a time, or one for each of its channels if these are separate.",
    )
    share_batches: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether parts of several tasks are computed in one batch: on, off, or auto: on a GPU. It makes a "
        "GPU faster, but not a CPU. The last digits of a result, and so rarely a word, may then depend on the others.",
    )
    max_audio_seconds: float = Field(default=43_200.0, gt=0, description="Longest audio that is accepted, in seconds.")
    idle_release_seconds: float = Field(
        default=0.0, ge=0, description="Seconds without work after which the model is unloaded; 0 is never."
    )
    spool_dir: ExpandedPath | None = Field(
        default=None, description="Folder for audio in progress; empty is the system's temporary folder."
    )


def load(settings_class: type[S]) -> S:
    """Returns the settings from the environment.

    If they are not valid, prints each wrong variable with the reason on stderr and exits the process with status 2.
    """
    try:
        return settings_class()
    except ValidationError as error:
        problems = _problems(error)
    except SettingsError as error:  # a list or a mapping that is not JSON; the message names the setting
        problems = [str(error)]
    sys.stderr.write("\n  ".join(["The settings are wrong:", *problems]) + "\n")
    raise SystemExit(2)


def public_values(settings: BaseSettings) -> dict[str, object]:
    """Returns all settings by name, for logs: passwords in URLs are hidden."""
    return {name: _public_value(value) for name, value in settings.model_dump(mode="json").items()}


def variable_name(field: str) -> str:
    """Returns the environment variable of a setting."""
    return PREFIX + field.upper()


def _problems(error: ValidationError) -> list[str]:
    return [
        f"{variable_name(str(problem['loc'][0]))} is {problem['input']!r}: {problem['msg']}"
        if problem["loc"]
        else problem["msg"]  # about a combination of settings
        for problem in error.errors(include_url=False)
    ]


def _public_value(value: object) -> object:
    if not isinstance(value, str) or "://" not in value:
        return value
    url = urlsplit(value)
    if url.password is None:
        return value
    user_and_place = f"{url.username or ''}:{HIDDEN}@{url.netloc.rpartition('@')[2]}"
    return urlunsplit(url._replace(netloc=user_and_place))
