"""The text formats of a result, read back by the tools that use them."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.database.util import load_rttm

from careca.types import (
    Channel,
    Digest,
    Notice,
    NoticeCode,
    OutputFormat,
    Result,
    Speaker,
    SpeakerCountCandidate,
    Stage,
    StageReport,
    StageState,
    Turn,
    Utterance,
    Word,
)
from careca_gateway.formats import render
from careca_gateway.formats.nist import file_id
from careca_gateway.formats.subtitles import CUE_LINES, CUE_SECONDS, LINE_COLUMNS, cues
from careca_gateway.pipeline.words import columns

meeteval = pytest.importorskip("meeteval", reason="its package needs a C compiler to install", exc_type=ImportError)

A, B = "SPEAKER_00", "SPEAKER_01"
EMPTY = Result(recording=Digest("a" * 64, 10), audio=Digest("b" * 64, 64_000), duration=2.0, stages=())


def utterance(text: str, start: float, end: float, speaker: str | None = A) -> Utterance:
    step = (end - start) / len(text.split())
    words = tuple(
        Word(word, start + index * step, start + (index + 1) * step, 0.9, speaker)
        for index, word in enumerate(text.split())
    )
    return Utterance(start, end, text, speaker, words)


CALL = replace(
    EMPTY,
    duration=3723.5,
    stages=tuple(StageReport(stage, StageState.SUCCEEDED, 1.0) for stage in Stage),
    language="en",
    language_probability=0.987654,
    utterances=(utterance("Hello there.", 0.5, 1.25), utterance("Good morning!", 3722.0, 3723.5, B)),
    turns=(Turn(0.4, 1.3, A), Turn(1.1, 1.9, B), Turn(3721.9, 3723.5, B)),
    exclusive_turns=(Turn(0.4, 1.3, A), Turn(1.3, 1.9, B), Turn(3721.9, 3723.5, B)),
    speakers=(Speaker(A, (0.6, -0.8), "voices@1"), Speaker(B)),
    candidates=(SpeakerCountCandidate(1, None), SpeakerCountCandidate(2, 0.5)),
    transcription_model="whisper@1",
    diarization_model="segmentation@2",
)

PARTIAL = replace(
    CALL,
    utterances=(utterance("Hello there.", 0.5, 1.25, None),),
    turns=(),
    exclusive_turns=(),
    stages=(
        StageReport(Stage.TRANSCRIBE, StageState.SUCCEEDED, 1.0),
        StageReport(Stage.DIARIZE, StageState.FAILED, 1.0, False, "OUT_OF_MEMORY", "too little\nmemory --> <here>"),
    ),
)


def test_text_has_a_line_for_each_utterance() -> None:
    assert render(CALL, OutputFormat.TXT, "call.wav") == (
        "[00:00:00.500 - 00:00:01.250] SPEAKER_00: Hello there.\n"
        "[01:02:02.000 - 01:02:03.500] SPEAKER_01: Good morning!\n"
    )


def test_subrip_numbers_its_cues_and_names_the_speaker() -> None:
    assert render(CALL, OutputFormat.SRT, "call.wav") == (
        "1\n00:00:00,500 --> 00:00:01,250\nSPEAKER_00: Hello there.\n\n"
        "2\n01:02:02,000 --> 01:02:03,500\nSPEAKER_01: Good morning!\n"
    )


def test_webvtt_has_voice_tags() -> None:
    assert render(CALL, OutputFormat.VTT, "call.wav") == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:01.250\n<v SPEAKER_00>Hello there.</v>\n\n"
        "01:02:02.000 --> 01:02:03.500\n<v SPEAKER_01>Good morning!</v>\n"
    )


def test_webvtt_escapes_what_would_be_markup() -> None:
    result = replace(CALL, utterances=(utterance("a < b && c --> d", 0.0, 2.0),))

    assert "<v SPEAKER_00>a &lt; b &amp;&amp; c --&gt; d</v>\n" in render(result, OutputFormat.VTT, "call.wav")


def test_tab_separated_values_are_read_back_as_they_are() -> None:
    result = replace(CALL, utterances=(utterance("one\ttwo\nthree", 0.5, 1.25), utterance("who", 2.0, 3.0, None)))

    rows = list(csv.reader(io.StringIO(render(result, OutputFormat.TSV, "call.wav")), delimiter="\t"))

    assert rows == [
        ["start", "end", "speaker", "text"],
        ["500", "1250", "SPEAKER_00", "one two three"],
        ["2000", "3000", "", "who"],
    ]


def test_json_has_everything_in_it() -> None:
    document = json.loads(render(CALL, OutputFormat.JSON, "call.wav"))

    assert document["name"] == "call.wav"
    assert document["recording"] == {"sha256": "a" * 64, "size_bytes": 10}
    assert document["speakers"] == [
        {"label": A, "name": None, "similarity": None, "embedding_model": "voices@1", "embedding": [0.6, -0.8]},
        {"label": B, "name": None, "similarity": None, "embedding_model": "", "embedding": []},
    ]
    assert document["partial"] is False
    assert document["utterances"][0] == {
        "start": 0.5,
        "end": 1.25,
        "speaker": A,
        "language": "",
        "text": "Hello there.",
        "words": [
            {"text": "Hello", "start": 0.5, "end": 0.875, "probability": 0.9, "speaker": A},
            {"text": "there.", "start": 0.875, "end": 1.25, "probability": 0.9, "speaker": A},
        ],
    }
    assert document["turns"][1] == {"start": 1.1, "end": 1.9, "speaker": B}
    assert document["exclusive_turns"][1] == {"start": 1.3, "end": 1.9, "speaker": B}
    assert document["speaker_count_candidates"][0] == {"speaker_count": 1, "silhouette_score": None}
    assert (document["language"], document["language_probability"]) == ("en", 0.9877)
    assert (document["transcription_model"], document["diarization_model"]) == ("whisper@1", "segmentation@2")


def test_json_says_who_speaks_on_which_separate_channel() -> None:
    digest = Digest("c" * 64, 32_000)
    stereo = replace(CALL, channels=(Channel(digest, B), Channel(digest)))

    document = json.loads(render(stereo, OutputFormat.JSON, "call.wav"))

    audio = {"sha256": "c" * 64, "size_bytes": 32_000}
    assert document["channels"] == [{"audio": audio, "speaker": B}, {"audio": audio, "speaker": None}]


def test_cues_of_separate_channels_may_overlap_and_are_in_order() -> None:
    long, short = utterance("one two three four five six. seven eight", 0.0, 16.0), utterance("Yes.", 3.0, 4.0, B)
    mixed = replace(CALL, utterances=(long, short))
    digest = Digest("c" * 64, 32_000)
    separate = replace(mixed, channels=(Channel(digest, A), Channel(digest, B)))

    together = [(cue.start, cue.end, cue.speaker) for cue in cues(separate, prefixed=False)]

    assert together == [(0.0, 6.0, A), (3.0, 4.0, B), (6.0, 12.0, A), (12.0, 16.0, A)]
    assert [cue.end for cue in cues(mixed, prefixed=False)] == [3.0, 4.0, 12.0, 16.0]


def test_scoring_tools_read_rttm_with_overlaps(tmp_path: Path) -> None:
    text = render(CALL, OutputFormat.RTTM, "the call.wav")
    path = tmp_path / "call.rttm"
    path.write_text(text)

    (annotation,) = load_rttm(path).values()  # type: ignore[no-untyped-call]
    lines = meeteval.io.RTTM.parse(text)

    assert annotation.uri == "the_call"
    assert sorted(annotation.labels()) == [A, B]
    assert [(round(turn.start, 3), round(turn.end, 3)) for turn in annotation.get_timeline()] == [
        (0.4, 1.3),
        (1.1, 1.9),
        (3721.9, 3723.5),
    ]
    assert [(line.filename, line.speaker_id) for line in lines] == [("the_call", A), ("the_call", B), ("the_call", B)]


def test_recognized_speakers_have_their_name_in_every_format() -> None:
    name = "Ana\u3000de Sá"
    result = replace(
        CALL,
        utterances=(utterance("Hello there.", 0.5, 1.25, name),),
        turns=(Turn(0.4, 1.3, name),),
        speakers=(Speaker(A, (0.6, -0.8), "voices@1", name, 0.812345),),
    )
    forms = {form: render(result, form, "call.wav") for form in OutputFormat}

    assert f"] {name}: Hello there.\n" in forms[OutputFormat.TXT]
    assert f"\n{name}: Hello there.\n" in forms[OutputFormat.SRT]
    assert f"\n<v {name}>Hello there.</v>\n" in forms[OutputFormat.VTT]
    assert f"\t{name}\tHello there.\n" in forms[OutputFormat.TSV]
    assert [line.speaker_id for line in meeteval.io.RTTM.parse(forms[OutputFormat.RTTM])] == ["Ana_de_Sá"]
    assert [line.speaker_id for line in meeteval.io.STM.parse(forms[OutputFormat.STM])] == ["Ana_de_Sá"]
    document = json.loads(forms[OutputFormat.JSON])
    assert document["utterances"][0]["speaker"] == document["turns"][0]["speaker"] == name
    (speaker,) = document["speakers"]
    assert (speaker["label"], speaker["name"], speaker["similarity"]) == (A, name, 0.8123)


def test_scoring_tools_read_stm() -> None:
    lines = meeteval.io.STM.parse(render(CALL, OutputFormat.STM, "a/b/the call.wav"))

    assert [(line.filename, line.speaker_id, line.transcript) for line in lines] == [
        ("the_call", A, "Hello there."),
        ("the_call", B, "Good morning!"),
    ]
    assert [(float(line.begin_time), float(line.end_time)) for line in lines] == [(0.5, 1.25), (3722.0, 3723.5)]


def test_stm_scores_no_error_against_itself() -> None:
    lines = meeteval.io.STM.parse(render(CALL, OutputFormat.STM, "call.wav"))

    assert meeteval.wer.combine_error_rates(meeteval.wer.cpwer(lines, lines)).error_rate == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meeting one.final.mp3", "meeting_one.final"),
        ("C:\\calls\\Ann & Bob.m4a", "Ann_Bob"),
        ("../../etc/passwd", "passwd"),
        ("você.ogg", "você"),
        ("", "recording"),
        ("???.wav", "recording"),
        (";; x.wav", "x"),
    ],
)
def test_the_file_id_is_one_field_for_any_name(name: str, expected: str) -> None:
    assert file_id(name) == expected


def test_a_partial_result_is_marked_in_formats_with_comments() -> None:
    notice = "partial result: the stage diarize failed: too little memory --> <here>"

    assert render(PARTIAL, OutputFormat.TXT, "x").splitlines()[0] == f";; {notice}"
    assert render(PARTIAL, OutputFormat.STM, "x").splitlines()[0] == f";; {notice}"
    assert "\nNOTE partial result: the stage diarize failed: too little memory --&gt; &lt;here&gt;\n" in render(
        PARTIAL, OutputFormat.VTT, "x"
    )
    document = json.loads(render(PARTIAL, OutputFormat.JSON, "x"))
    assert document["partial"] is True
    assert document["failures"] == [
        {"stage": "diarize", "reason": "OUT_OF_MEMORY", "message": "too little\nmemory --> <here>"}
    ]


NOTICED = replace(
    CALL,
    notices=(
        Notice(NoticeCode.SEVERAL_LANGUAGES, "2 languages are spoken: en from 0,\npt from 1 --> <b>"),
        Notice(NoticeCode.SPEECH_WITHOUT_WORDS, "speech of 2.5 s is heard", 3661.25, 3663.75),
    ),
)
NOTICE_LINES = [
    "notice SEVERAL_LANGUAGES: 2 languages are spoken: en from 0, pt from 1 --> <b>",
    "notice SPEECH_WITHOUT_WORDS [01:01:01.250 - 01:01:03.750]: speech of 2.5 s is heard",
]


@pytest.mark.parametrize("form", [OutputFormat.TXT, OutputFormat.STM])
def test_notices_are_comments_at_the_beginning_of_text_and_stm(form: OutputFormat) -> None:
    lines = render(NOTICED, form, "x").splitlines()

    assert lines[:2] == [f";; {line}" for line in NOTICE_LINES]
    assert lines[2:] == render(CALL, form, "x").splitlines()


def test_notices_are_comments_before_the_first_webvtt_cue() -> None:
    header, first, second, *cue = render(NOTICED, OutputFormat.VTT, "x").split("\n\n")

    assert header == "WEBVTT"
    assert first == f"NOTE {NOTICE_LINES[0]}".replace("-->", "--&gt;").replace("<b>", "&lt;b&gt;")
    assert second == f"NOTE {NOTICE_LINES[1]}"
    assert ["WEBVTT", *cue] == render(CALL, OutputFormat.VTT, "x").split("\n\n")


def test_notices_in_json_have_their_times() -> None:
    assert json.loads(render(NOTICED, OutputFormat.JSON, "x"))["notices"] == [
        {"code": "SEVERAL_LANGUAGES", "message": NOTICED.notices[0].message, "start": None, "end": None},
        {"code": "SPEECH_WITHOUT_WORDS", "message": "speech of 2.5 s is heard", "start": 3661.25, "end": 3663.75},
    ]


@pytest.mark.parametrize("form", [OutputFormat.SRT, OutputFormat.TSV, OutputFormat.RTTM])
def test_formats_without_comments_do_not_change_with_notices(form: OutputFormat) -> None:
    assert render(NOTICED, form, "x") == render(CALL, form, "x")


def test_a_notice_about_what_follows_a_moment_has_one_time() -> None:
    result = replace(CALL, notices=(Notice(NoticeCode.TRUNCATED, "the recording breaks off", 9.4),))

    assert render(result, OutputFormat.TXT, "x").startswith(";; notice TRUNCATED [00:00:09.400]: the recording breaks")


def test_scoring_tools_read_stm_with_notices_in_it() -> None:
    lines = meeteval.io.STM.parse(render(NOTICED, OutputFormat.STM, "x"))

    assert [line.transcript for line in lines] == ["Hello there.", "Good morning!"]


def test_words_without_a_speaker_are_written_without_one() -> None:
    assert render(PARTIAL, OutputFormat.TXT, "x").splitlines()[1] == "[00:00:00.500 - 00:00:01.250] Hello there."
    assert render(PARTIAL, OutputFormat.SRT, "x") == "1\n00:00:00,500 --> 00:00:01,250\nHello there.\n"
    assert "\nHello there.\n" in render(PARTIAL, OutputFormat.VTT, "x")
    assert meeteval.io.STM.parse(render(PARTIAL, OutputFormat.STM, "x"))[0].speaker_id == "UNKNOWN"


def test_an_empty_result_gives_valid_empty_files() -> None:
    assert {form: render(EMPTY, form, "x") for form in OutputFormat if form is not OutputFormat.JSON} == {
        OutputFormat.TXT: "",
        OutputFormat.SRT: "",
        OutputFormat.VTT: "WEBVTT\n",
        OutputFormat.TSV: "start\tend\tspeaker\ttext\n",
        OutputFormat.RTTM: "",
        OutputFormat.STM: "",
    }
    assert json.loads(render(EMPTY, OutputFormat.JSON, "x"))["utterances"] == []


def test_turns_that_round_to_zero_are_not_in_rttm() -> None:
    assert render(replace(EMPTY, turns=(Turn(1.0, 1.0004, A),)), OutputFormat.RTTM, "x") == ""


def test_long_utterances_become_cues_that_can_be_read() -> None:
    text = " ".join(["these are words that somebody says for quite a while"] * 20) + "."
    result = replace(CALL, utterances=(utterance(text, 0.0, 80.0),))

    found = cues(result, prefixed=True)

    assert len(found) > 10
    assert all(cue.end - cue.start <= CUE_SECONDS for cue in found)
    assert all(len(cue.lines) <= CUE_LINES and max(map(columns, cue.lines)) <= LINE_COLUMNS for cue in found)
    assert all(cue.lines[0].startswith("SPEAKER_00: ") for cue in found)
    assert " ".join(line.removeprefix("SPEAKER_00: ") for cue in found for line in cue.lines) == text


def test_a_cue_ends_at_a_pause() -> None:
    words = (*utterance("one two", 0.0, 1.0).words, *utterance("three", 2.5, 3.0).words)
    result = replace(CALL, utterances=(Utterance(0.0, 3.0, "one two three", A, words),))

    assert [cue.lines for cue in cues(result, prefixed=False)] == [("one two",), ("three",)]


def test_a_cue_ends_where_the_next_begins() -> None:
    result = replace(CALL, utterances=(utterance("one two", 0.0, 2.0), utterance("three", 1.5, 3.0, B)))

    assert [(cue.start, cue.end) for cue in cues(result, prefixed=False)] == [(0.0, 1.5), (1.5, 3.0)]


def test_wide_characters_count_twice_and_get_no_spaces() -> None:
    words = tuple(Word("你好", index * 0.2, index * 0.2 + 0.2) for index in range(30))
    result = replace(CALL, utterances=(Utterance(0.0, 6.0, "你好" * 30, A, words),))

    found = cues(result, prefixed=False)

    assert [len(cue.lines) for cue in found] == [2, 1]
    assert [len(line) for cue in found for line in cue.lines] == [20, 20, 20]


def test_an_utterance_without_words_is_split_by_its_text() -> None:
    result = replace(CALL, utterances=(Utterance(0.0, 2.0, "one two three four", A),))

    assert [cue.lines for cue in cues(result, prefixed=False)] == [("one two three four",)]


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 30), st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)),
        max_size=6,
    )
)
@settings(deadline=None)
def test_subtitles_are_well_formed_for_any_text(said: list[tuple[float, float, str]]) -> None:
    utterances = tuple(
        Utterance(start, start + length, " ".join(text.split()), A, tuple(map(Word, text.split())))
        for start, length, text in sorted(said)
        if text.split()
    )
    result = replace(EMPTY, utterances=utterances)

    subrip, webvtt = render(result, OutputFormat.SRT, "x"), render(result, OutputFormat.VTT, "x")

    times = re.compile(r"^(\d\d:\d\d:\d\d[,.]\d{3}) --> (\d\d:\d\d:\d\d[,.]\d{3})$", re.MULTILINE)
    assert len(times.findall(subrip)) == len(cues(result, prefixed=True))
    assert len(times.findall(webvtt)) == len(cues(result, prefixed=False))
    assert all(start < end for start, end in times.findall(subrip) + times.findall(webvtt))
    assert webvtt.startswith("WEBVTT\n")
