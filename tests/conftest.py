import os
import signal

import hypothesis
import pytest
import torch

# The first call of a kernel can take longer than hypothesis allows an example by default.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")
# Tests run side by side, so each process takes one thread, and so do those that it starts.
torch.set_num_threads(1)
# A process in the background may ignore interrupts, and so would those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nothing of the user's settings reaches the tests, and no proxy answers for this machine.
for name in [name for name in os.environ if name.startswith("HEAR_") and name != "HEAR_TEST_DATA"]:
    del os.environ[name]
os.environ |= {"OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep what tests put into the cache out of the user's."""
    os.environ["HEAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def pytest_runtest_setup(item):
    """Skip what needs weights or recordings that are not there."""
    for marker in item.iter_markers("needs_shared"):
        for path in marker.args:
            if not path.exists():
                pytest.skip(f"needs {path.name}, which the repository does not have")
