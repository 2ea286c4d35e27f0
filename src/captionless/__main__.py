"""Run the command line with ``python -m captionless``."""

from captionless.cli import main

if __name__ == "__main__":
    main()
