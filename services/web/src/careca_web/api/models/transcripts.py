"""The JSON of corrections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from careca import types

_Seconds = Annotated[float, Field(ge=0, le=1e6)]


class Word(BaseModel):
    """One word. Its speaker is that of its utterance."""

    model_config = ConfigDict(extra="ignore")

    text: str
    start: _Seconds | None = None
    end: _Seconds | None = None
    probability: float | None = None

    def value(self) -> types.Word:
        """Returns the word."""
        return types.Word(self.text, self.start, self.end, self.probability)


class Utterance(BaseModel):
    """Words of one speaker. Words that are left out, or differ from the text, are made of the text."""

    model_config = ConfigDict(extra="forbid")

    start: _Seconds
    end: _Seconds
    speaker: str | None = None
    text: str
    language: str = ""
    words: list[Word] = Field(default_factory=list)

    @classmethod
    def from_value(cls, utterance: types.Utterance) -> Self:
        """Returns the utterance as JSON."""
        return cls(
            start=utterance.start,
            end=utterance.end,
            speaker=utterance.speaker,
            text=utterance.text,
            language=utterance.language,
            words=[
                Word(text=word.text, start=word.start, end=word.end, probability=word.probability)
                for word in utterance.words
            ],
        )

    def value(self) -> types.Utterance:
        """Returns the utterance."""
        words = tuple(word.value() for word in self.words)
        return types.Utterance(self.start, self.end, self.text, self.speaker, words, self.language)


class ReplaceUtterances(BaseModel):
    """Replaces consecutive utterances: edits text, splits, joins, removes, inserts and reassigns."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["replace_utterances"]
    index: int = Field(ge=0, le=2**31 - 1)
    count: int = Field(ge=0, le=2**31 - 1)
    utterances: list[Utterance]

    def value(self) -> types.ReplaceUtterances:
        """Returns the edit."""
        return types.ReplaceUtterances(self.index, self.count, tuple(each.value() for each in self.utterances))


class RenameSpeaker(BaseModel):
    """Renames a speaker everywhere. With ``merge`` the speaker becomes one with the one who has the name already."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["rename_speaker"]
    speaker: str
    new_name: str
    merge: bool = False

    def value(self) -> types.RenameSpeaker:
        """Returns the edit."""
        return types.RenameSpeaker(self.speaker, self.new_name, self.merge)


class Corrections(BaseModel):
    """Edits. Each one applies to the outcome of the one before."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"edits": [{"type": "rename_speaker", "speaker": "SPEAKER_00", "new_name": "Ana"}]}]
        },
    )

    edits: list[Annotated[ReplaceUtterances | RenameSpeaker, Field(discriminator="type")]] = Field(
        min_length=1, max_length=100
    )


class Restoration(BaseModel):
    """Which revision to save again."""

    model_config = ConfigDict(extra="forbid")

    restore: int = Field(ge=0, le=2**31 - 1, description="0: what was recognised.", examples=[1])


class Revision(BaseModel):
    """A saved state of a transcript."""

    number: int
    author: str
    created: float
    summary: str
    restored_from: int | None

    @classmethod
    def from_value(cls, revision: types.Revision) -> Self:
        """Returns the revision as JSON."""
        return cls(
            number=revision.number,
            author=revision.author,
            created=revision.create_unix,
            summary=revision.summary,
            restored_from=revision.restored_from,
        )


class Revisions(BaseModel):
    """All revisions, oldest first, without what was recognised."""

    revisions: list[Revision]


class Restored(BaseModel):
    """The revision that restored an older one."""

    revision: Revision


class Splice(BaseModel):
    """The effect of an edit: utterances were replaced by others. A renamed speaker has an empty one."""

    index: int
    removed_count: int
    utterances: list[Utterance]


class SavedTranscript(BaseModel):
    """What was saved: the new revision, and one splice for each edit."""

    revision: Revision
    splices: list[Splice]

    @classmethod
    def from_value(cls, saved: types.SavedTranscript) -> Self:
        """Returns what was saved as JSON."""
        return cls(
            revision=Revision.from_value(saved.revision),
            splices=[
                Splice(
                    index=splice.index,
                    removed_count=splice.removed_count,
                    utterances=[Utterance.from_value(each) for each in splice.utterances],
                )
                for splice in saved.splices
            ],
        )
