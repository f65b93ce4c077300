"""The codes of notices, where they are written down: for programs, for people, and for users of other languages."""

import re
from pathlib import Path

from careca.types import NoticeCode
from careca_gateway.decoding import notices

ROOT = Path(__file__).parents[2]

CODES = [code.value for code in NoticeCode]


def test_the_page_about_notices_has_a_row_for_each_code_and_no_other() -> None:
    page = (ROOT / "docs" / "notices.md").read_text()

    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \|$", page, re.MULTILINE)

    assert [code for code, _, _ in rows] == CODES
    assert all(meaning.endswith(".") and advice.endswith(".") for _, meaning, advice in rows)


def test_the_proto_lists_each_code_and_no_other() -> None:
    proto = (ROOT / "protos" / "careca" / "v1" / "gateway.proto").read_text()
    notice = proto.partition("message Notice {")[2].partition("string code")[0]

    assert re.findall(r"^  //   ([A-Z_]+): ", notice, re.MULTILINE) == CODES


def test_a_code_is_its_own_name() -> None:
    assert [code.name for code in NoticeCode] == CODES


def test_the_decoder_has_no_code_of_its_own() -> None:
    """Its process writes codes out, as it starts faster without the list of them."""
    own = {name for name, value in vars(notices).items() if name.isupper() and value == name}

    assert own == {"TRUNCATED", "DAMAGED", "AUDIO_TRACK_CHOSEN", "CLIPPED", "VERY_QUIET", "SILENT"}
    assert own <= set(CODES)


def test_only_the_list_of_codes_writes_them_out() -> None:
    written = {
        f"{path.relative_to(ROOT)}: {code}"
        for folder in ("services", "client")
        for path in (ROOT / folder).rglob("*.py")
        if not re.search(r"careca/(types|v1)|careca_gateway/decoding/notices\.py", str(path))
        for code in CODES
        if f'"{code}"' in path.read_text()
    }

    assert written == set()
