"""The gateway's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from careca.auth.tls import TlsFiles
from careca.settings import ExpandedPath, ServiceSettings, metrics_port_field, port_field
from careca_gateway.ingest.decoder import DecodeLimits

_MIB = 1024 * 1024
_GIB = 1024 * _MIB


class GatewaySettings(ServiceSettings):
    """What the gateway needs to run."""

    _HOW_TO_AUTHENTICATE = "set CARECA_TLS_CERT_FILE, CARECA_TLS_KEY_FILE and CARECA_TOKENS_FILE"

    port: int = port_field(50051)
    metrics_port: int = metrics_port_field(9101)
    transcriber_target: str = Field(
        default="127.0.0.1:50052",
        description="Where the transcriber is: host:port, or dns:///name:port for all addresses of a name.",
    )
    diarizer_target: str = Field(
        default="127.0.0.1:50053",
        description="Where the diarizer is: host:port, or dns:///name:port for all addresses of a name.",
    )
    services_ca_file: ExpandedPath | None = Field(
        default=None,
        description="PEM file with the authority of the model services' certificates; empty calls them without TLS.",
    )
    services_cert_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the certificate that the gateway shows the model services."
    )
    services_key_file: ExpandedPath | None = Field(default=None, description="PEM file with that certificate's key.")
    tokens_file: ExpandedPath | None = Field(
        default=None,
        description="File with the hashes of the tokens that callers may show, which `careca tokens new` writes; may "
        "be replaced at any time. Empty asks nobody who they are.",
    )
    store_dir: ExpandedPath = Field(
        default=Path("~/.cache/careca/store"),
        description="Folder for recordings and their decoded audio; one gateway process uses it at a time.",
    )
    store_url: str = Field(
        default="",
        description="Where gateways share recordings, audio and results: file:///FOLDER or s3://BUCKET/PREFIX, with "
        "the usual AWS_... variables; empty for a gateway that is alone.",
    )
    store_allow_http: bool = Field(
        default=False, description="Whether the S3 storage may be reached without TLS, as in a test."
    )
    store_max_bytes: int = Field(
        default=50 * _GIB, ge=0, description="Bytes to keep in the store; the least recently used goes first."
    )
    store_retention_seconds: float = Field(
        default=7 * 86_400.0, ge=0, description="Seconds after its last use that a recording stays in the store."
    )
    max_requests: int = Field(
        default=16, ge=1, description="Requests worked on at once; further ones are refused with a time to retry."
    )
    max_recording_bytes: int = Field(
        default=4 * _GIB, gt=0, description="Size of the largest recording that is accepted, in bytes."
    )
    max_audio_seconds: float = Field(
        default=43_200.0, gt=0, description="Length of the longest audio that is accepted, in seconds."
    )
    upload_idle_seconds: float = Field(
        default=60.0, gt=0, description="Seconds that an upload may stand still before the call is ended."
    )
    decoders: int = Field(default=2, ge=1, description="Recordings decoded at once, each in a process of its own.")
    decode_memory_bytes: int = Field(
        default=_GIB, ge=256 * _MIB, description="Address space that decoding one recording may take, in bytes."
    )
    decode_cpu_seconds: int = Field(
        default=900, ge=1, description="Processor time that decoding one recording may take, in seconds."
    )
    decode_timeout_seconds: float = Field(
        default=1_800.0, gt=0, description="Time that decoding one recording may take, in seconds."
    )
    decode_confined: Literal["auto", "require", "off"] = Field(
        default="auto",
        description="How the processes that decode are shut off from files, network and other processes: auto, as far "
        "as the kernel can; require, not at all without a filter of system calls; off, for looking into a fault.",
    )
    jobs_redis_url: str = Field(
        default="",
        description="Redis that holds the jobs, such as redis://localhost:6379/0: one that evicts nothing and writes "
        "everything to its disk, apart from the cache. Empty takes no jobs.",
    )
    jobs_redis_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Seconds that the Redis of the jobs gets to answer: it writes everything to its disk first.",
    )
    job_slots: int = Field(
        default=8, ge=1, description="Jobs worked on at once, most of which wait for a model service."
    )
    job_max_attempts: int = Field(
        default=25, ge=1, description="How often a job may be lost with its gateway before it is given up."
    )
    job_patience_seconds: float = Field(
        default=3_600.0, ge=0, description="Seconds that a job waits for a service that is full or away."
    )
    job_retention_seconds: float = Field(
        default=7 * 86_400.0, gt=0, description="Seconds that a job and its result stay after it has ended."
    )
    max_queued_jobs: int = Field(
        default=100_000, ge=1, description="Jobs that may wait; further ones are refused with a time to retry."
    )
    max_queued_jobs_per_submitter: int = Field(
        default=10_000, ge=1, description="Jobs of one submitter that may wait; further ones are refused likewise."
    )
    known_speaker_similarity: float = Field(
        default=0.5,
        gt=0.0,
        lt=1.0,
        description="Cosine of a speaker's and a known speaker's voice from which on they are one person's; the "
        "default is for Careca's own embedding model and lies between the highest of different people and the lowest "
        "of one person in recordings with known truth (docs/speakers.md).",
    )
    webhook_secret_file: ExpandedPath | None = Field(
        default=None,
        description="File with the secret that webhooks are signed with; it may change at any time. Empty accepts no "
        "webhooks.",
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may lead to addresses that are not public: this machine, this network.",
    )
    webhook_timeout_seconds: float = Field(
        default=10.0, gt=0, le=300, description="Seconds that one attempt to tell a webhook may take."
    )
    webhook_attempts: int = Field(
        default=20,
        ge=1,
        description="Attempts to tell a webhook, at growing distances of up to an hour, before it is given up.",
    )

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers have to prove who they are."""
        return self.tokens_file is not None or super().authenticates_callers

    @property
    def services_tls(self) -> TlsFiles | None:
        """The files to call model services with, ``None`` without TLS. Raises ``PreconditionFailed``."""
        if self.services_ca_file is None:
            return None
        return TlsFiles(
            certificate=self.services_cert_file, key=self.services_key_file, authority=self.services_ca_file
        )

    @model_validator(mode="after")
    def _services_tls_is_whole(self) -> Self:
        if (self.services_cert_file is None) != (self.services_key_file is None):
            raise ValueError("CARECA_SERVICES_CERT_FILE and CARECA_SERVICES_KEY_FILE go together")
        if self.services_cert_file and not self.services_ca_file:
            raise ValueError("CARECA_SERVICES_CERT_FILE needs CARECA_SERVICES_CA_FILE")
        return self

    @property
    def decode_limits(self) -> DecodeLimits:
        """What decoding one recording may take."""
        return DecodeLimits(
            memory_bytes=self.decode_memory_bytes,
            cpu_seconds=self.decode_cpu_seconds,
            timeout_seconds=self.decode_timeout_seconds,
            max_audio_seconds=self.max_audio_seconds,
        )
