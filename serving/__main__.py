"""`python -m serving` is `exfm-serve`."""

import sys

from serving.command import main

sys.exit(main())
