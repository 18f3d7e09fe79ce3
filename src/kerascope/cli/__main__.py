"""`python -m kerascope.cli`: the command line without its installed script."""

from kerascope.cli.main import main

if __name__ == "__main__":
    main()
