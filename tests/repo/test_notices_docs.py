"""The codes of notices, where they are written down: for programs, for people, and for users of other languages."""

import re
from pathlib import Path

from careca.types import NoticeCode

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


def test_only_the_list_of_codes_writes_them_out() -> None:
    written = {
        f"{path.relative_to(ROOT)}: {code}"
        for folder in ("services", "client")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "types.py" and "careca/v1" not in str(path)
        for code in CODES
        if f'"{code}"' in path.read_text()
    }

    assert written == set()
