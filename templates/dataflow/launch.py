"""What the launcher of Dataflow's Flex templates runs: FLEX_TEMPLATE_PYTHON_PY_FILE of the image."""

from __future__ import annotations

import sys

from pipelines.flex import main

if __name__ == "__main__":
    sys.exit(main())
