import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import hear_mn
from hear_core.errors import ConfigError
from hear_core.plugins.configs import embedding_configs
from hear_core.plugins.names import module_name


def test_a_config_is_a_module():
    module = importlib.import_module("hear_mn.mn10_all_b_mel_avgs")
    assert module.__name__ == "hear_mn.mn10_all_b_mel_avgs"
    assert sys.modules[module.__name__] is module
    assert module is hear_mn.mn10_all_b_mel_avgs
    for name in ("load_model", "get_scene_embeddings", "get_timestamp_embeddings"):
        assert callable(getattr(module, name))
        assert getattr(module, name).__doc__


def test_from_import():
    from hear_mn import mn04_e1_l

    assert mn04_e1_l.config.backbone == "mn04_as"


def test_the_docstring_describes_the_embedding_and_its_size():
    doc = importlib.import_module("hear_mn.mn10_all_b_mel_avgs").__doc__
    assert "an embedding of 600 numbers from mn10_as" in doc
    assert "mel_avgs 128, b5 40, b11 112, b13 160, b15 160" in doc
    assert (
        "1.28 s long and not"
        in importlib.import_module("hear_mn.mn10_all_b_mel_avgs_ts320").__doc__
    )


def test_an_unknown_module_names_the_nearest():
    with pytest.raises(ModuleNotFoundError, match=r"did you mean .*'mn04_e1_l'"):
        importlib.import_module("hear_mn.mn04_e1_1")
    with pytest.raises(ModuleNotFoundError, match=r"'mn04_e1_l'"):
        from hear_mn import mn04_e1_1  # noqa: F401
    assert not hasattr(hear_mn, "mn04_e1_1")


def test_names_are_offered_for_completion():
    assert set(embedding_configs("hear_mn")) <= set(dir(hear_mn))


def test_files_of_the_package_come_first():
    assert importlib.import_module("hear_mn.zoo").__file__


def test_own_embeddings_are_modules_too(tmp_path):
    (tmp_path / "hear_mn.yaml").write_text("mine: {backbone: mn01_as, taps: [b3, logits]}")
    code = "import hear_mn.mine as m; print(m.load_model(pretrained=False).scene_embedding_size)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"HEAR_CONFIGS": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "535"


@pytest.mark.parametrize("name", ["", "mn04_e1_1", "no module", "\0"])
def test_names_that_cannot_be_imported_are_unknown(name):
    with pytest.raises(ConfigError, match="unknown module"):
        module_name(name)


def test_modules_without_a_spec_are_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    assert module_name("made_by_hand") == "made_by_hand"
