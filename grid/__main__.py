"""`python -m grid`: see grid/cli.py."""

from grid.commands.cli import main

if __name__ == "__main__":
    main()
