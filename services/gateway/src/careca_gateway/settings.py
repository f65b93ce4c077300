"""The settings of the gateway."""

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
    """The environment variables of the gateway."""

    _HOW_TO_AUTHENTICATE = "set CARECA_TLS_CERT_FILE, CARECA_TLS_KEY_FILE and CARECA_TOKENS_FILE"

    port: int = port_field(50051)
    metrics_port: int = metrics_port_field(9101)
    transcriber_target: str = Field(
        default="127.0.0.1:50052",
        description="Address of the transcriber: host:port, or dns:///name:port for all addresses of a name.",
    )
    diarizer_target: str = Field(
        default="127.0.0.1:50053",
        description="Address of the diarizer: host:port, or dns:///name:port for all addresses of a name.",
    )
    services_ca_file: ExpandedPath | None = Field(
        default=None,
        description="PEM file with the certificate authority of the model services; empty to call them without TLS.",
    )
    services_cert_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the gateway's client certificate for the model services."
    )
    services_key_file: ExpandedPath | None = Field(
        default=None, description="PEM file with the key of that certificate."
    )
    tokens_file: ExpandedPath | None = Field(
        default=None,
        description="File with the hashes of the callers' tokens, written by `careca tokens new`; may be replaced at "
        "any time. Empty to accept all callers without a token.",
    )
    store_dir: ExpandedPath = Field(
        default=Path("~/.cache/careca/store"),
        description="Folder for recordings and their decoded audio. One gateway process uses it at a time.",
    )
    store_url: str = Field(
        default="",
        description="Storage in which gateways share recordings, audio and results: file:///FOLDER or "
        "s3://BUCKET/PREFIX, with the usual AWS_... variables; empty for a single gateway.",
    )
    store_allow_http: bool = Field(
        default=False, description="Whether the S3 storage may be used without TLS, for tests."
    )
    store_max_bytes: int = Field(
        default=50 * _GIB,
        ge=0,
        description="Maximum size of the store, in bytes; the least recently used files are removed first.",
    )
    store_retention_seconds: float = Field(
        default=7 * 86_400.0, ge=0, description="Seconds that a recording stays in the store after its last use."
    )
    max_requests: int = Field(
        default=16,
        ge=1,
        description="Maximum number of requests at the same time; further ones are refused with a time to retry.",
    )
    max_recording_bytes: int = Field(default=4 * _GIB, gt=0, description="Maximum size of a recording, in bytes.")
    max_audio_seconds: float = Field(default=43_200.0, gt=0, description="Maximum length of the audio, in seconds.")
    upload_idle_seconds: float = Field(
        default=60.0, gt=0, description="Seconds that an upload may send nothing before the call is ended."
    )
    decoders: int = Field(default=2, ge=1, description="Recordings decoded at the same time, each in its own process.")
    decode_memory_bytes: int = Field(
        default=_GIB, ge=256 * _MIB, description="Maximum address space for decoding one recording, in bytes."
    )
    decode_cpu_seconds: int = Field(
        default=900, ge=1, description="Maximum processor time for decoding one recording, in seconds."
    )
    decode_timeout_seconds: float = Field(
        default=1_800.0, gt=0, description="Maximum time for decoding one recording, in seconds."
    )
    decode_confined: Literal["auto", "require", "off"] = Field(
        default="auto",
        description="Sandbox of the processes that decode, without access to files, network and other processes: auto, "
        "as far as the kernel supports it; require, fail without a filter of system calls; off, for debugging.",
    )
    jobs_redis_url: str = Field(
        default="",
        description="Redis for the jobs, such as redis://localhost:6379/0. It must not evict keys, must write "
        "everything to disk, and must not be the Redis of the cache. Empty to take no jobs.",
    )
    jobs_redis_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Timeout for the Redis of the jobs, in seconds. It writes everything to disk before it answers.",
    )
    job_slots: int = Field(
        default=8, ge=1, description="Jobs that run at the same time. Most of them wait for a model service."
    )
    job_max_attempts: int = Field(
        default=25, ge=1, description="How often a job may be lost with its gateway before it fails."
    )
    job_patience_seconds: float = Field(
        default=3_600.0, ge=0, description="Seconds that a job waits for a service that is full or unavailable."
    )
    job_retention_seconds: float = Field(
        default=7 * 86_400.0, gt=0, description="Seconds that a job and its result are kept after it has ended."
    )
    max_queued_jobs: int = Field(
        default=100_000,
        ge=1,
        description="Maximum number of waiting jobs; further ones are refused with a time to retry.",
    )
    max_queued_jobs_per_submitter: int = Field(
        default=10_000,
        ge=1,
        description="Maximum number of waiting jobs of one submitter; further ones are refused with a time to retry.",
    )
    max_live_sessions: int = Field(
        default=32, ge=1, description="Live sessions at the same time; further ones are refused with a time to retry."
    )
    max_live_sessions_per_submitter: int = Field(
        default=8, ge=1, description="Live sessions of one submitter at the same time; further ones are refused."
    )
    live_idle_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without a call after which a live session ends: time to continue it after a broken "
        "connection.",
    )
    live_prepare: bool = Field(
        default=True,
        description="Whether most of the work for the result of a live session is done while people still talk, so "
        "that the result is there soon after the end. A little of it is done in vain.",
    )
    known_speaker_similarity: float = Field(
        default=0.5,
        gt=0.0,
        lt=1.0,
        description="Minimum cosine similarity of a speaker's voice and a known speaker's voice to recognize the "
        "speaker. The default is for Careca's own embedding model. In labelled recordings it lies between the highest "
        "similarity of different people and the lowest of one person (docs/speakers.md).",
    )
    webhook_secret_file: ExpandedPath | None = Field(
        default=None,
        description="File with the secret for signing webhooks; may change at any time. Empty to accept no webhooks.",
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may have private addresses, such as this machine and its network.",
    )
    webhook_timeout_seconds: float = Field(
        default=10.0, gt=0, le=300, description="Timeout for calling a webhook once, in seconds."
    )
    webhook_attempts: int = Field(
        default=20,
        ge=1,
        description="Attempts to call a webhook, with growing delays of up to an hour, before it is given up.",
    )

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers must authenticate."""
        return self.tokens_file is not None or super().authenticates_callers

    @property
    def services_tls(self) -> TlsFiles | None:
        """The PEM files for calling model services; ``None`` without TLS. Raises ``PreconditionFailed``."""
        if self.services_ca_file is None:
            return None
        return TlsFiles(
            certificate=self.services_cert_file, key=self.services_key_file, authority=self.services_ca_file
        )

    @model_validator(mode="after")
    def _services_tls_is_whole(self) -> Self:
        if (self.services_cert_file is None) != (self.services_key_file is None):
            raise ValueError("CARECA_SERVICES_CERT_FILE and CARECA_SERVICES_KEY_FILE must be set together")
        if self.services_cert_file and not self.services_ca_file:
            raise ValueError("CARECA_SERVICES_CERT_FILE needs CARECA_SERVICES_CA_FILE")
        return self

    @property
    def decode_limits(self) -> DecodeLimits:
        """The limits for decoding one recording."""
        return DecodeLimits(
            memory_bytes=self.decode_memory_bytes,
            cpu_seconds=self.decode_cpu_seconds,
            timeout_seconds=self.decode_timeout_seconds,
            max_audio_seconds=self.max_audio_seconds,
        )
