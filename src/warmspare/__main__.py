"""`python -m warmspare` is the console command."""

from warmspare.cli.main import main

main()
