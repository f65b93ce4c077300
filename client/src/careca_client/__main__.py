"""``python -m careca_client`` runs the command ``careca``."""

from careca_client.cli import main

if __name__ == "__main__":
    main()
