"""``python -m captionless`` is the command ``captionless``."""

from captionless.cli import main

if __name__ == "__main__":
    main()
