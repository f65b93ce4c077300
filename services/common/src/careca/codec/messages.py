"""Conversion of a dataclass to a message and back by a table of its attributes, so that each is named once.

For values of which there are few. Words and what contains them are written by hand in ``careca.codec.speech`` and
``careca.codec.result``, because that is several times faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.message import Message

from careca.codec.enums import EnumCodec
from careca.codec.scalars import decode_duration, decode_time, encode_duration, encode_time

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

V = TypeVar("V", bound="DataclassInstance")
M = TypeVar("M", bound=Message)


def _unchanged(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """The field of a message that stores one attribute."""

    name: str = ""
    """Empty: the name of the attribute."""
    encode: Callable[[Any], Any] = _unchanged
    decode: Callable[[Any], Any] = _unchanged
    optional: bool = False
    """Whether ``None`` is stored as an unset field."""


class MessageCodec(Generic[V, M]):
    """Converts one dataclass.

    Args:
        value_type: the dataclass.
        message_type: the class of the message.
        fields: the fields of attributes that the message does not store under the same name and unchanged.
    """

    def __init__(self, value_type: type[V], message_type: type[M], **fields: Field) -> None:
        self._value_type = value_type
        self._message_type = message_type
        self._fields = {attribute.name: Field() for attribute in dataclasses.fields(value_type)} | fields

    def encode(self, value: V) -> M:
        """Returns the message of ``value``."""
        message = {}
        for attribute, field in self._fields.items():
            content = getattr(value, attribute)
            message[field.name or attribute] = None if content is None else field.encode(content)
        return self._message_type(**message)

    def decode(self, message: M) -> V:
        """Returns the value in ``message``."""
        value = {}
        for attribute, field in self._fields.items():
            name = field.name or attribute
            unset = field.optional and not message.HasField(name)
            value[attribute] = None if unset else field.decode(getattr(message, name))
        return self._value_type(**value)


def duration_field(name: str, *, optional: bool = False) -> Field:
    """The field of a number of seconds."""
    return Field(name, encode_duration, decode_duration, optional)


def time_field(name: str, *, optional: bool = False) -> Field:
    """The field of a time in seconds since 1970."""
    return Field(name, encode_time, decode_time, optional)


def field_of(codec: EnumCodec[Any, Any] | MessageCodec[Any, Any], *, optional: bool = False) -> Field:
    """The field of a value that ``codec`` converts."""
    return Field(encode=codec.encode, decode=codec.decode, optional=optional)


def none_if_empty(text: str) -> str | None:
    """Decodes a text whose empty value means that there is none."""
    return text or None


def repeated_field(codec: MessageCodec[Any, Any]) -> Field:
    """The field of a tuple of values that ``codec`` converts."""
    return Field(
        encode=lambda values: map(codec.encode, values), decode=lambda messages: tuple(map(codec.decode, messages))
    )
