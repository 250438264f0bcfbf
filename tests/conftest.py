import os

import hypothesis
import pytest
import torch

# The first call of a kernel can take longer than hypothesis allows an example by default.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")
torch.set_num_threads(2)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep what tests put into the cache out of the user's."""
    os.environ.setdefault("HEAR_CACHE", str(tmp_path_factory.mktemp("cache")))


def pytest_runtest_setup(item):
    """Skip what needs weights or recordings that are not there."""
    for marker in item.iter_markers("needs_shared"):
        for path in marker.args:
            if not path.exists():
                pytest.skip(f"needs {path.name}, which the repository does not have")
