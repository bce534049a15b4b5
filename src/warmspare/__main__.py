"""The console command, also as `python -m warmspare`: its first and last step."""

# Starting is mostly imports, which leave nothing to collect: the collector rests until the work begins (cli/run.py).
import gc

gc.disable()

# Whatever comes, a signal is heard: also while the rest is read.
from warmspare.ending import PROCESS  # noqa: E402

PROCESS.listen()

from warmspare.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
