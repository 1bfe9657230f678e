"""`python -m cosim` is the `cosim` command."""

from cosim.cli import main

if __name__ == "__main__":
    main()
