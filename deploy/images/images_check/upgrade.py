"""From the images of an older revision to those of now, and back, while callers ask."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from careca.types import Job, JobState, RenameSpeaker
from careca_client import AsyncClient, TranscriptionResult
from images_check import images
from images_check.base import ROOT
from images_check.checks import System, assert_call
from images_check.load import Outside, asked_while, figures, losses, outside
from images_check.podman import CheckError, Podman
from images_check.pods import ADDRESSES, Cluster
from images_check.replicas import BACK, FORWARD, OVERLAY, WEB_PORT, Replicas
from k8s_check.build import build
from k8s_check.manifests import Manifests

_TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}

_ENDED_SECONDS = 60.0


def older_images(podman: Podman, revision: str, folder: Path, options: str) -> Manifests:
    """Builds the images of a revision from its files alone. Returns its manifests with these images.

    Raises ``CheckError`` if there is no such revision.
    """
    tag = _git("rev-parse", "--short=12", f"{revision}^{{commit}}").decode().strip()
    root = folder / tag
    root.mkdir()
    subprocess.run(["tar", "--extract"], input=_git("archive", tag), cwd=root, check=True)
    manifests = build(OVERLAY, root / "deploy" / "k8s")
    for workload in manifests.workloads:
        for container in workload.containers:
            if container.image_name in images.IMAGES:
                container.spec["image"] = f"localhost/careca/{container.image_name}:{tag}"
    for service in images.IMAGES:
        name = f"localhost/careca/{service}:{tag}"
        if (root / "services" / service / "Dockerfile").exists() and not podman.succeeds("image", "exists", name):
            images.build(podman, service, name, options, root)
    return manifests


def upgrade(system: System, older: Manifests) -> Iterator[str]:
    """Replaces all services of the older version one by one, and then those of this version, and loses nothing."""
    system.cluster.remove_pods()
    before, now = system.cluster.of(older), system.cluster.of(build(OVERLAY))
    replicas = Replicas()
    replicas.start(before)
    yield from asyncio.run(_upgrade(system, replicas, before, now))


async def _upgrade(system: System, replicas: Replicas, before: Cluster, now: Cluster) -> list[str]:
    found: list[str] = []
    lost: list[str] = []
    async with outside(replicas, system.people, system.folder) as callers:
        kept = [await keep(callers, system.recording(), system.recording(), "older", "SPEAKER_00")]
        for way, cluster, order in (("to this version", now, FORWARD), ("back", before, BACK)):
            asked, live = await asked_while(replicas.replace_all(cluster, order), callers)
            found += [f"{way}:", *figures(asked).splitlines(), live]
            lost += losses(way, asked)
            found += [line for each in kept async for line in each.found(callers)]
            if len(kept) == 1:
                kept.append(await keep(callers, system.recording(), system.recording(), "newer", "SPEAKER_01"))
    if lost:
        raise CheckError("\n".join([*found, *lost]))
    return found


@dataclass(frozen=True)
class Kept:
    """What a version has stored."""

    version: str
    recording: Path
    result: TranscriptionResult
    """What is in the caches."""
    job_id: str
    job_result: TranscriptionResult
    job_content: bytes
    """The job's recording."""
    upload: str
    """The path of an upload that is half done."""
    content: bytes
    """All bytes of it."""

    async def found(self, callers: Outside) -> AsyncIterator[str]:
        """Reads all of it from the version that runs now. Raises ``CheckError`` if something is lost."""
        client = callers.clients[0]
        again = await client.transcribe(self.recording)
        assert_call(again)
        cached = [stage.stage for stage in again.stages if stage.cached]
        yield f"caches of the {self.version} version: {', '.join(cached) or 'nothing'} from there"
        if len(cached) == len(again.stages) and again.utterances != self.result.utterances:
            raise CheckError(f"the caches of the {self.version} version have another result")
        jobs = await _ended_jobs(client)
        if failed := [job for job in jobs if job.state is not JobState.SUCCEEDED]:
            told = [f"{job.display_name} {job.id} {job.state} {job.error_reason} {job.error_message}" for job in failed]
            raise CheckError(f"these jobs have not succeeded: {'; '.join(told)}")
        if self.job_id not in {job.id for job in jobs}:
            raise CheckError(f"the job of the {self.version} version is lost")
        recognised = await client.job_result(self.job_id, revision=0)
        corrected = await client.job_result(self.job_id)
        if recognised.utterances != self.job_result.utterances or _corrected(self.version) not in _speakers(corrected):
            raise CheckError(f"the job of the {self.version} version has another result or no correction")
        async with client.read_recording(self.job_id) as reader:
            played = b"".join([chunk async for chunk in reader.chunks])
        if played != self.job_content:
            raise CheckError(f"the recording of the {self.version} version has other bytes")
        yield f"job of the {self.version} version: result, correction and recording; {len(jobs)} jobs in the history"
        voices = {voice.name for voice in await client.voices()}
        if _voice(self.version) not in voices:
            raise CheckError(f"the voice that the {self.version} version saved is lost")
        named = await client.transcribe(self.recording, use_saved_voices=True)
        if _voice(self.version) in _speakers(named):
            yield f"voice of the {self.version} version: recognised"
        elif named.notices:
            yield f"voice of the {self.version} version: passed over ({named.notices[0].message})"
        else:
            raise CheckError(f"the voice that the {self.version} version saved is not recognised")
        yield f"upload of the {self.version} version: continued at {await self._continue(callers)} bytes"

    async def _continue(self, callers: Outside) -> int:
        """Continues the upload, and returns where."""
        async with callers.http(f"{ADDRESSES['web'][0]}:{WEB_PORT}") as web:
            offset = int((await web.head(self.upload, headers=_TUS)).headers["Upload-Offset"])
            if offset < len(self.content):
                headers = {**_TUS, "Upload-Offset": str(offset)}
                sent = await web.patch(self.upload, content=self.content[offset:], headers=headers)
                if sent.status_code != HTTPStatus.NO_CONTENT:
                    raise CheckError(f"an upload of the {self.version} version cannot continue: {sent.text}")
            shown = (await web.get(self.upload)).json()
        if not shown["recording"] or shown["recording"]["size_bytes"] != len(self.content):
            raise CheckError(f"an upload of the {self.version} version is not complete: {shown}")
        return offset


async def keep(callers: Outside, recording: Path, of_job: Path, version: str, speaker: str) -> Kept:
    """Has the version that runs now store one of each."""
    client = callers.clients[0]
    result = await client.transcribe(recording)
    job = await client.submit(of_job)
    async for _ in client.watch(job.id):
        pass
    job_result, job_content = await client.job_result(job.id), await asyncio.to_thread(of_job.read_bytes)
    await client.save_voice(_voice(version), job_id=job.id, speaker=speaker)
    await client.save_transcript(job.id, [RenameSpeaker(speaker, _corrected(version))], base_revision=0)
    # With a byte more it is another recording, which the gateway does not have.
    content = await asyncio.to_thread(recording.read_bytes) + bytes(1)
    async with callers.http(f"{ADDRESSES['web'][0]}:{WEB_PORT}") as web:
        headers = {**_TUS, "Upload-Length": str(len(content))}
        begun = await web.post("/api/uploads", content=content[: len(content) // 2], headers=headers)
        if begun.status_code != HTTPStatus.CREATED:
            raise CheckError(f"an upload cannot begin: {begun.text}")
    return Kept(version, recording, result, job.id, job_result, job_content, begun.headers["Location"], content)


async def _ended_jobs(client: AsyncClient) -> list[Job]:
    """Returns all jobs, once they have ended: the caller of a call has its result before that is stored."""
    async with asyncio.timeout(_ENDED_SECONDS):
        while True:
            jobs = [job async for job in client.jobs()]
            if all(job.state.ended for job in jobs):
                return jobs
            await asyncio.sleep(0.5)


def _voice(version: str) -> str:
    return f"voice of {version}"


def _corrected(version: str) -> str:
    return f"corrected by {version}"


def _speakers(result: TranscriptionResult) -> set[str | None]:
    return {utterance.speaker for utterance in result.utterances}


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise CheckError(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout
