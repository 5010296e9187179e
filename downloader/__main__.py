"""`python -m downloader` is the `downloader` command."""

from downloader.cli import main

if __name__ == "__main__":
    main()
