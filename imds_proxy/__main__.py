"""`python -m imds_proxy` is `imds-proxy`."""

import sys

from imds_proxy.cli.main import main

sys.exit(main())
