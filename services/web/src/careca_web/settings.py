"""The settings of the web service."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from careca.auth.loopback import is_loopback
from careca.settings import ExpandedPath, ServerSettings, metrics_port_field
from careca_client import Access

_GIB = 1024**3


class WebSettings(ServerSettings):
    """The environment variables of the web service."""

    _HOW_TO_AUTHENTICATE = "set CARECA_TLS_CERT_FILE and CARECA_TLS_KEY_FILE, and require tokens at the gateway"

    port: int = Field(default=8080, ge=0, le=65535, description="Port for HTTP; 0 takes any free port.")
    metrics_port: int = metrics_port_field(9104)
    gateway_target: str = Field(
        default="127.0.0.1:50051",
        description="Address of the gateway: host:port, or dns:///name:port for all addresses of a name.",
    )
    gateway_tls: bool = Field(
        default=False,
        description="Whether to call the gateway with TLS and the authorities that this machine trusts.",
    )
    gateway_ca_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the authority of the gateway's certificate; also turns on TLS."
    )
    gateway_cert_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the client certificate for the gateway, if it requires one."
    )
    gateway_key_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the key of that certificate."
    )
    allowed_hosts: str = Field(
        default="",
        description="Host names under which browsers may reach the service, separated by commas. Empty: localhost and "
        "the address in CARECA_HOST if only this machine can reach the service, otherwise any.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins of other web pages that may call the API with a token, such as https://app.example, "
        "separated by commas. Empty: none.",
    )
    browsers_use_tls: bool = Field(
        default=False,
        description="Whether browsers reach the service with TLS that a proxy ends. Session cookies are then sent with "
        "TLS only, and browsers keep to https. Not needed with CARECA_TLS_CERT_FILE.",
    )
    session_key_file: ExpandedPath | None = Field(
        default=None,
        description="File with a secret of at least 32 bytes that encrypts session cookies, the same for all replicas. "
        "Empty: a random key, so that a restart signs everybody out.",
    )
    session_seconds: float = Field(
        default=43_200.0, gt=0, description="Seconds after which a browser must sign in again."
    )
    uploads_dir: ExpandedPath = Field(
        default=Path("~/.cache/careca/uploads"),
        description="Folder for uploads that browsers can resume. One process of the web service uses it at a time.",
    )
    uploads_max_bytes: int = Field(
        default=20 * _GIB,
        gt=0,
        description="Maximum size of all unfinished uploads together, in bytes. Those of one caller may have a quarter "
        "of it together; a single one may be larger.",
    )
    uploads_retention_seconds: float = Field(
        default=86_400.0, gt=0, description="Seconds after its last bytes that an unfinished upload is kept."
    )
    body_idle_seconds: float = Field(
        default=60.0, gt=0, description="Seconds that a request's body may send nothing before it is refused."
    )
    body_min_bytes_per_second: int = Field(
        default=500,
        gt=0,
        description="Minimum average rate of a request's body after its first CARECA_BODY_IDLE_SECONDS, in bytes per "
        "second. A slower body is refused.",
    )
    max_receiving: int = Field(
        default=16,
        gt=0,
        description="Maximum number of recordings that are received at the same time, uploads that can be resumed not "
        "counted. Further requests are answered 429.",
    )
    header_seconds: float = Field(
        default=20.0, gt=0, description="Seconds that a connection may take to send a request's headers."
    )

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers must authenticate: the gateway decides. The service asks it before it is ready."""
        return True

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the service with TLS: of the service itself, or of a proxy."""
        return self.browsers_use_tls or self.tls_cert_file is not None

    @property
    def is_remote(self) -> bool:
        """Whether other machines can reach the service."""
        return not is_loopback(self.host)

    @property
    def gateway_access(self) -> Access:
        """How to reach the gateway, without a token."""
        return Access(
            tls=self.gateway_tls,
            ca_file=self.gateway_ca_file,
            cert_file=self.gateway_cert_file,
            key_file=self.gateway_key_file,
            insecure=self.allow_insecure,
        )

    @model_validator(mode="after")
    def _gateway_tls_is_whole(self) -> Self:
        if (self.gateway_cert_file is None) != (self.gateway_key_file is None):
            raise ValueError("CARECA_GATEWAY_CERT_FILE and CARECA_GATEWAY_KEY_FILE must be set together")
        return self


def comma_separated(text: str) -> list[str]:
    """Returns the parts of a setting that are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
