"""The table in docs/settings.md, from the services' settings classes. `make docs` writes it, a test compares it."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from careca.settings import ServerSettings, variable_name
from careca_diarizer.settings import DiarizerSettings
from careca_gateway.settings import GatewaySettings
from careca_transcriber.settings import TranscriberSettings
from careca_web.settings import WebSettings

PAGE = Path(__file__).parent / "settings.md"
BEGIN, END = "<!-- settings:begin -->\n", "<!-- settings:end -->"
SERVICES: dict[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "transcriber": TranscriberSettings,
    "diarizer": DiarizerSettings,
    "web": WebSettings,
}


def table() -> str:
    """Returns one row for each variable, with its readers, default and meaning. The most widely read come first."""
    names = list(dict.fromkeys(name for settings in SERVICES.values() for name in settings.model_fields))
    names.sort(key=lambda name: [name not in settings.model_fields for settings in SERVICES.values()])
    rows = "".join(_row(name) for name in names)
    return f"| variable | read by | default | meaning |\n|---|---|---|---|\n{rows}"


def with_table(text: str) -> str:
    """Returns ``text`` with its table of settings replaced by the current one."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"


def _row(name: str) -> str:
    fields = {service: each.model_fields[name] for service, each in SERVICES.items() if name in each.model_fields}
    services = "all" if len(fields) == len(SERVICES) else ", ".join(fields)
    field = next(iter(fields.values()))
    return f"| `{variable_name(name)}` | {services} | {_default(fields)} | {field.description} |\n"


def _default(fields: dict[str, FieldInfo]) -> str:
    shown = list(dict.fromkeys(_shown(field.default) for field in fields.values()))
    return " / ".join(shown)


def _shown(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`" if value not in (None, "") else "empty"


def main() -> int:
    """Writes the table into the page. With ``--check`` it writes nothing and returns 1 if the table is not current."""
    text = PAGE.read_text()
    current = with_table(text)
    if "--check" in sys.argv:
        return int(text != current)
    PAGE.write_text(current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
