import hypothesis
import torch

# The first call of a kernel can take longer than hypothesis allows an example by default.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")
torch.set_num_threads(2)
