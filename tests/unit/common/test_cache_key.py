"""The cache key: equal for equal requests, different for all others."""

from dataclasses import replace

import pytest

from careca.cache.port import cache_key
from careca.types import DiarizationOptions, Digest, TranscriptionOptions

AUDIO = Digest("ab" * 32, 32_000)
OPTIONS = TranscriptionOptions(language="en", initial_prompt="Careca", hotwords=("one", "two"))


def key(*, schema: int = 1, model: str = "m@1", audio: Digest = AUDIO, options: TranscriptionOptions = OPTIONS) -> str:
    return cache_key(schema=schema, model=model, audio=audio, options=options)


def test_the_same_request_has_the_same_key_in_every_process() -> None:
    assert key() == key(options=replace(OPTIONS)) == "71b3174c6438a9a3eddcfa41ef67f62617ec57dfede4b999efb6824e4be8ad85"


@pytest.mark.parametrize(
    "other",
    [
        key(schema=2),
        key(model="m@2"),
        key(audio=replace(AUDIO, sha256="cd" * 32)),
        key(audio=replace(AUDIO, size_bytes=64_000)),
        key(options=replace(OPTIONS, language=None)),
        key(options=replace(OPTIONS, translate=True)),
        key(options=replace(OPTIONS, initial_prompt="careca")),
        key(options=replace(OPTIONS, hotwords=("two", "one"))),
        key(options=replace(OPTIONS, hotwords=("one,two",))),
        key(options=replace(OPTIONS, beam_size=1)),
    ],
)
def test_everything_that_changes_the_result_changes_the_key(other: str) -> None:
    assert other != key()


def test_speaker_options_change_the_key_of_a_diarization() -> None:
    choices = [
        DiarizationOptions(),
        DiarizationOptions(speaker_count=2),
        DiarizationOptions(min_speaker_count=2),
        DiarizationOptions(max_speaker_count=2),
    ]

    keys = {cache_key(schema=1, model="m@1", audio=AUDIO, options=options) for options in choices}

    assert len(keys) == len(choices)


def test_a_key_is_a_whole_sha256() -> None:
    assert len(bytes.fromhex(key())) == 32
