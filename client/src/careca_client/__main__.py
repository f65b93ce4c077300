"""``python -m careca_client`` is the command ``careca``, for where scripts are not on the path."""

from careca_client.cli import main

if __name__ == "__main__":
    main()
