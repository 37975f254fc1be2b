"""`python -m dulcet` is the command `dulcet`."""

from dulcet.cli import main

if __name__ == "__main__":
    main()
