"""Corrections over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from support.web import Web, ended, problem, submit

RENAME = {"type": "rename_speaker", "speaker": "SPEAKER_00", "new_name": "Ana"}


@pytest.fixture
async def path(web: Web) -> str:
    """The path of a job that has ended."""
    return f"/api/jobs/{(await ended(web, await submit(web)))['id']}"


async def save(web: Web, path: str, *edits: dict[str, Any], base: str | None = '"0"') -> Any:
    headers = {"If-Match": base} if base is not None else {}
    return await web.http.patch(f"{path}/result", json={"edits": list(edits)}, headers=headers)


async def test_a_correction_is_the_next_revision(web: Web, path: str) -> None:
    before = await web.http.get(f"{path}/result")
    replace = {
        "type": "replace_utterances",
        "index": 0,
        "count": 1,
        "utterances": [{"start": 0.0, "end": 1.0, "speaker": "SPEAKER_00", "text": "Hello, there friend"}],
    }
    saved = await save(web, path, replace, RENAME, base=before.headers["etag"])
    after = await web.http.get(f"{path}/result")
    original = await web.http.get(f"{path}/result", params={"revision": "original"})

    assert before.headers["etag"] == '"0"'
    assert saved.headers["etag"] == after.headers["etag"] == '"1"'
    body = saved.json()
    assert (body["revision"]["number"], body["revision"]["author"]) == (1, "anonymous")
    splice, empty = body["splices"]
    assert (splice["index"], splice["removed_count"], empty["utterances"]) == (0, 1, [])
    assert [word["text"] for word in splice["utterances"][0]["words"]] == ["Hello,", "there", "friend"]
    first = after.json()["utterances"][0]
    assert (first["speaker"], first["text"]) == ("Ana", "Hello, there friend")
    assert original.json() == before.json()
    assert "Ana" in (await web.http.get(f"{path}/result.txt")).text
    assert "Ana" not in (await web.http.get(f"{path}/result.txt", params={"revision": 0})).text


async def test_two_who_edit_at_once_are_told(web: Web, path: str) -> None:
    await save(web, path, RENAME)
    late = await save(web, path, RENAME | {"new_name": "Eva"})

    assert problem(late)[:2] == (412, "REVISION_CONFLICT")
    assert late.json()["metadata"]["newest_revision"] == "1"


async def test_a_save_whose_answer_was_lost_may_be_repeated(web: Web, path: str) -> None:
    first = await save(web, path, RENAME)
    again = await save(web, path, RENAME)

    assert (again.status_code, again.json(), again.headers["etag"]) == (200, first.json(), '"1"')
    assert len((await web.http.get(f"{path}/revisions")).json()["revisions"]) == 1


async def test_an_older_revision_is_restored(web: Web, path: str) -> None:
    await save(web, path, RENAME)
    restored = await web.http.post(f"{path}/revisions", json={"restore": 0}, headers={"If-Match": '"1"'})
    revisions = (await web.http.get(f"{path}/revisions")).json()["revisions"]

    assert restored.status_code == 201
    assert restored.json()["revision"]["restored_from"] == 0
    assert restored.headers["etag"] == '"2"'
    assert [(each["number"], each["restored_from"]) for each in revisions] == [(1, None), (2, 0)]
    late = await web.http.post(f"{path}/revisions", json={"restore": 1}, headers={"If-Match": '"1"'})
    assert problem(late)[:2] == (412, "REVISION_CONFLICT")
    unknown = await web.http.post(f"{path}/revisions", json={"restore": 9}, headers={"If-Match": '"2"'})
    assert problem(unknown)[:2] == (404, "REVISION_NOT_FOUND")


async def test_a_tag_that_a_proxy_made_weak_names_the_same_revision(web: Web, path: str) -> None:
    saved = await save(web, path, RENAME, base='W/"0"')
    late = await save(web, path, RENAME | {"new_name": "Eva"}, base='W/"0"')
    restored = await web.http.post(f"{path}/revisions", json={"restore": 0}, headers={"If-Match": 'W/"1"'})

    assert saved.headers["etag"] == '"1"'
    assert problem(late)[:2] == (412, "REVISION_CONFLICT")
    assert restored.headers["etag"] == '"2"'


async def test_a_speaker_is_merged_only_if_asked(web: Web, path: str) -> None:
    rename = {"type": "rename_speaker", "speaker": "SPEAKER_00", "new_name": "SPEAKER_01"}
    refused = await save(web, path, rename)
    merged = await save(web, path, rename | {"merge": True})

    assert problem(refused)[0] in (400, 409)
    assert merged.status_code == 200


@pytest.mark.parametrize(("base", "status"), [(None, 428), ("", 428), ("0", 400), ('w/"0"', 400), ("*", 400)])
async def test_the_base_must_be_said(web: Web, path: str, base: str | None, status: int) -> None:
    assert problem(await save(web, path, RENAME, base=base))[0] == status
    headers = {"If-Match": base} if base is not None else {}
    response = await web.http.post(f"{path}/revisions", json={"restore": 0}, headers=headers)
    assert problem(response)[0] == status


@pytest.mark.parametrize(
    "edit",
    [
        {"type": "delete_everything"},
        {"type": "rename_speaker", "speaker": "SPEAKER_00"},
        {"type": "rename_speaker", "speaker": "Nobody", "new_name": "Ana"},
        {"type": "rename_speaker", "speaker": "SPEAKER_00", "new_name": "a\nb"},
        {"type": "replace_utterances", "index": -1, "count": 0, "utterances": []},
        {"type": "replace_utterances", "index": 9, "count": 9, "utterances": []},
        {"type": "replace_utterances", "index": 0, "count": 1, "utterances": [{"start": 0, "end": 1}]},
        {"type": "replace_utterances", "index": 0, "count": 1, "utterances": [{"start": 5, "end": 9, "text": "x"}]},
        RENAME | {"colour": "red"},
    ],
    ids=str,
)
async def test_a_bad_edit_is_refused_and_nothing_is_saved(web: Web, path: str, edit: dict[str, Any]) -> None:
    assert problem(await save(web, path, RENAME, edit))[0] in (400, 422)
    assert (await web.http.get(f"{path}/revisions")).json()["revisions"] == []


async def test_corrections_have_limits(web: Web, path: str) -> None:
    none = await save(web, path)
    many = await save(web, path, *[RENAME] * 101)
    large = await web.http.patch(f"{path}/result", content=bytes(5 << 20), headers={"If-Match": '"0"'})

    assert problem(none)[0::2] == problem(many)[0::2] == (422, "edits")
    assert problem(large)[:2] == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("revision", ["-1", "newest", "1.5", str(2**31)])
async def test_a_bad_revision_is_refused(web: Web, path: str, revision: str) -> None:
    assert problem(await web.http.get(f"{path}/result", params={"revision": revision}))[0] == 422


async def test_a_revision_that_does_not_exist_is_not_found(web: Web, path: str) -> None:
    assert problem(await web.http.get(f"{path}/result", params={"revision": 7}))[:2] == (404, "REVISION_NOT_FOUND")
