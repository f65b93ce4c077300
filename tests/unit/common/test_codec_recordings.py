"""Conversion of what is read of recordings to messages and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca import codec
from careca.errors import InvalidRequest
from careca.types import Peaks, RecordingForm, RecordingInfo, Waveform
from careca.v1 import recordings_pb2

seconds = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)


@given(st.builds(RecordingInfo, st.integers(0, 2**62), st.text(), st.booleans(), st.text(), st.text()))
def test_an_info_comes_back_as_it_was(info):
    message = recordings_pb2.RecordingInfo.FromString(codec.encode_recording_info(info).SerializeToString())

    assert codec.decode_recording_info(message) == info


@given(
    st.builds(
        Waveform, seconds, seconds, seconds, st.lists(st.builds(Peaks, st.binary(), st.binary()), max_size=3).map(tuple)
    )
)
def test_a_waveform_comes_back_as_it_was(waveform):
    message = recordings_pb2.GetWaveformResponse.FromString(codec.encode_waveform(waveform).SerializeToString())

    assert codec.decode_waveform(message) == waveform


@pytest.mark.parametrize("form", RecordingForm)
def test_a_form_comes_back_as_it_was(form):
    assert codec.decode_recording_form(codec.encode_recording_form(form)) is form


@pytest.mark.parametrize("number", [0, 3])
def test_an_unspecified_or_unknown_form_is_refused_by_field(number):
    with pytest.raises(InvalidRequest, match="RECORDING_FORM_ORIGINAL or RECORDING_FORM_PLAYABLE") as refused:
        codec.decode_recording_form(number)

    assert refused.value.field == "form"
