from __future__ import annotations

import os
from importlib.util import find_spec

# Before torch is loaded: the models are tiny and the tests run side by side, so that threads would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# verl cannot live beside the versions that the training extra needs.
collect_ignore = [] if find_spec("verl") else ["test_beside_verl.py"]
