"""The list of models."""

from __future__ import annotations

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Model

from support.stack import Stack


async def test_served_models_and_openai_names_are_listed(client: AsyncOpenAI) -> None:
    models = (await client.models.list()).data

    assert [model.id for model in models][:3] == ["fake@0123456789ab", "fake", "whisper-1"]
    assert {model.owned_by for model in models} == {"careca"}
    for model in models:
        Model.model_validate(model.model_dump(), strict=True)
        assert await client.models.retrieve(model.id) == model


async def test_a_model_that_is_not_served_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.models.retrieve("gpt-5")

    assert raised.value.code == "model_not_found"


async def test_without_a_transcriber_the_names_remain(client: AsyncOpenAI, stack: Stack) -> None:
    await stack.transcriber.stop()

    models = (await client.models.list()).data

    assert models[0].id == "whisper-1"
