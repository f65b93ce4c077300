"""Settings that several services share, read from environment variables with the prefix ``CARECA_``.

Each service derives its own class with its own default ports. These modules are the only readers of the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from careca.auth.loopback import is_loopback
from careca.auth.tls import PemFiles

PREFIX = "CARECA_"
"""What every environment variable of Careca starts with."""

HIDDEN = "***"
"""What stands in logs where a password was."""

ExpandedPath = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path whose leading ``~`` is the home of the user."""

S = TypeVar("S", bound=BaseSettings)

_CONFIG = SettingsConfigDict(
    env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
)


class ModelStoreSettings(BaseSettings):
    """Where models are."""

    model_config = _CONFIG

    models_dir: ExpandedPath = Field(
        default=Path("~/.cache/careca/models"),
        description="Folder that holds the models' weights, one folder per model; `careca models pull` fills it.",
    )


class ServiceSettings(BaseSettings):
    """What every service needs to run. Each service gives ``port`` and ``metrics_port`` defaults of its own."""

    model_config = _CONFIG

    _WHAT_KEEPS_STRANGERS_OUT: ClassVar[str] = (
        "set CARECA_TLS_CERT_FILE, CARECA_TLS_KEY_FILE and CARECA_TLS_CLIENT_CA_FILE"
    )

    host: str = Field(
        default="127.0.0.1", description="Address to listen on, for calls and for metrics; 0.0.0.0 is every interface."
    )
    port: int = Field(default=0, ge=0, le=65535, description="Port for gRPC calls; 0 takes any free one.")
    metrics_port: int = Field(
        default=0, ge=-1, le=65535, description="Port for Prometheus metrics; 0 takes any free one, -1 serves none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important level that is logged: debug, info, warning or error."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Form of log lines: json, console, or auto, which is console in a terminal."
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="Seconds that calls in flight get to finish in after SIGTERM."
    )
    reflection: bool = Field(
        default=True, description="Whether the service tells anybody, such as grpcurl, which methods it has."
    )
    health: bool = Field(default=True, description="Whether the service tells anybody who calls it about its health.")
    otlp_endpoint: str = Field(
        default="",
        description="Where to send traces, as OpenTelemetry's protocol over gRPC, such as http://collector:4317; empty "
        "sends none.",
    )
    health_port: int = Field(
        default=-1,
        ge=-1,
        le=65535,
        description="Further port that tells of health alone, without TLS, for probes that speak none; -1 is none.",
    )
    tls_cert_file: ExpandedPath | None = Field(
        default=None,
        description="PEM file with the service's certificate and those up to its authority; may be replaced at any "
        "time. Empty serves without TLS.",
    )
    tls_key_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the certificate's key, without a password."
    )
    tls_client_ca_file: ExpandedPath | None = Field(
        default=None,
        description="PEM file with the authorities of callers' certificates; empty asks callers for none.",
    )
    allow_insecure: bool = Field(
        default=False,
        description="Whether others than this machine may call without TLS, or without saying who they are.",
    )

    @property
    def knows_callers(self) -> bool:
        """Whether callers have to prove who they are."""
        return self.tls_client_ca_file is not None

    @property
    def tls(self) -> PemFiles | None:
        """The files to serve with, ``None`` without TLS. Raises ``PreconditionFailed`` where they cannot be used."""
        if self.tls_cert_file is None:
            return None
        return PemFiles(certificate=self.tls_cert_file, key=self.tls_key_file, authority=self.tls_client_ca_file)

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("CARECA_TLS_CERT_FILE and CARECA_TLS_KEY_FILE go together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("CARECA_TLS_CLIENT_CA_FILE needs CARECA_TLS_CERT_FILE")
        return self

    @model_validator(mode="after")
    def _others_are_let_in_on_purpose(self) -> Self:
        if self.allow_insecure or is_loopback(self.host) or (self.tls_cert_file and self.knows_callers):
            return self
        raise ValueError(
            f"CARECA_HOST is {self.host!r}, which others can reach: {self._WHAT_KEEPS_STRANGERS_OUT}, or say "
            "CARECA_ALLOW_INSECURE=true where something else keeps strangers out"
        )


class ModelServiceSettings(ServiceSettings, ModelStoreSettings):
    """What a service that runs a model needs beside that."""

    redis_url: str = Field(
        default="", description="Redis that holds the results, such as redis://localhost:6379/0; empty caches nothing."
    )
    cache_ttl_seconds: float = Field(
        default=86_400.0, gt=0, description="Seconds that a result stays in the cache after it was stored."
    )
    cache_max_entries: int = Field(
        default=100, ge=1, description="Most results in the cache; the least recently used goes first."
    )
    cache_timeout_seconds: float = Field(
        default=0.25, gt=0, le=5, description="Seconds that Redis gets to answer before the lookup counts as a miss."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device to compute on: cpu, cuda, or auto, which takes a GPU where there is one."
    )
    device_index: int = Field(default=0, ge=0, description="Which GPU to compute on, from 0; one process uses one.")
    threads: int = Field(
        default=0, ge=0, description="CPU threads of the model; 0 takes one for each processor the process may use."
    )
    max_waiting: int = Field(
        default=8,
        ge=0,
        description="Tasks that may wait for the one that computes; further ones are refused with a time to retry.",
    )
    max_audio_seconds: float = Field(
        default=43_200.0, gt=0, description="Length of the longest audio that is accepted, in seconds."
    )
    idle_release_seconds: float = Field(
        default=0.0, ge=0, description="Seconds without work after which the model's memory is given back; 0 is never."
    )
    spool_dir: ExpandedPath | None = Field(
        default=None, description="Folder for audio while it is worked on; empty is the system's temporary folder."
    )


def load(settings_class: type[S]) -> S:
    """The settings from the environment.

    Where they are wrong, says on stderr which variable is and why, and leaves the process with status 2.
    """
    try:
        return settings_class()
    except ValidationError as error:
        problems = _problems(error)
    except SettingsError as error:  # a list or a mapping that is not JSON; the text names the setting
        problems = [str(error)]
    sys.stderr.write("\n  ".join(["The settings are wrong:", *problems]) + "\n")
    raise SystemExit(2)


def public_values(settings: BaseSettings) -> dict[str, object]:
    """All settings by name, fit for a log: passwords in URLs are hidden."""
    return {name: _public_value(value) for name, value in settings.model_dump(mode="json").items()}


def variable_name(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def _problems(error: ValidationError) -> list[str]:
    return [
        f"{variable_name(str(problem['loc'][0]))} is {problem['input']!r}: {problem['msg']}"
        if problem["loc"]
        else problem["msg"]  # of several settings that do not go together
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
