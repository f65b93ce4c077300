"""``python -m careca_diarizer.models convert|verify``: prepares the networks in the folder of the models.

``convert`` converts the pulled weights for OpenVINO, unless that is done. It needs torch and pyannote.audio, which a
diarizer on a CPU does not. ``verify`` checks that the diarizer can load its networks: the weights if ``CARECA_DEVICE``
is ``cuda``, otherwise the converted networks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from careca.errors import CarecaError
from careca.models import ModelStore
from careca.settings import load
from careca_diarizer.networks import keep_converted_networks, verify_networks
from careca_diarizer.settings import DiarizerSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0 for success, 1 if networks are missing, wrong or cannot be converted."""
    parser = argparse.ArgumentParser(prog="python -m careca_diarizer.models", description="Prepares the networks.")
    parser.add_argument("command", choices=("convert", "verify"), help="the command")
    command = parser.parse_args(arguments).command
    settings = load(DiarizerSettings)
    store = ModelStore(settings.models_dir)
    try:
        if command == "convert":
            sys.stdout.write(f"{keep_converted_networks(store)} has the converted networks\n")
        else:
            verify_networks(store, gpu=settings.device == "cuda")
            sys.stdout.write("the networks are verified\n")
    except CarecaError as error:
        return _fail(error.message)
    except OSError as error:
        return _fail(f"The folder of the models cannot be used: {error}")
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
