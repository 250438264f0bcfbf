"""The published recipes, each trained for some steps on data of its layout that the test makes."""

import json

import numpy as np
import onnxruntime
import pytest
import soundfile
from accelerate import Accelerator
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from hear_cli.app import app
from hear_core.audio.reading import read_audio
from hear_core.errors import ConfigError
from hear_core.zoo.metadata import read_metadata
from hear_mn import ZOO, EATagger
from hear_mn.dynamic_convolution import DynamicConv
from hear_train.data.hdf5 import PackedRow, as_mp3, write_packed
from hear_train.data.panns import to_panns_int16, write_panns_index, write_waveforms
from hear_train.loop.logs import read_log
from hear_train.recipe_files import list_recipes
from hear_train.recipes import load_recipe
from hear_train.runs import build, evaluate_network
from tests.hear_cli.command import hear
from tests.hear_train.conftest import RATE
from tests.hear_train.test_recipes_of_detectors import DETECTION

TINY = (
    "model.pretrained=false",
    "model.dropout=0",
    "data.seconds=0.5",
    "data.batch_size=4",
    "data.epoch_length=8",
    "trainer.epochs=4",
    "trainer.log_every=1",
    "trainer.validate_every=2",
    "trainer.optimiser.lr=1e-3",
    "trainer.schedule={warm_up: 0, down_start: 9, down_length: 9}",
    "waveforms={}",
    "spectrograms={mel_edges: false}",
)


def write(path, number):
    """Write a tone whose pitch tells the class, and return its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(RATE // 2) / RATE
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 400 * (1 + number % 2) * time), RATE)


def esc50(root):
    rows = ["filename,fold,target,category"]
    for number in range(12):
        write(root / "audio" / f"{number}.wav", number)
        rows.append(f"{number}.wav,{1 + number // 8},{number % 2},{'ab'[number % 2]}")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows))
    return ("data.fold=2",)


def dcase20(root):
    rows = [f"audio/{number}.wav\t{'ab'[number % 2]}" for number in range(12)]
    for number in range(12):
        write(root / "audio" / f"{number}.wav", number)
    (root / "evaluation_setup").mkdir()
    (root / "meta.csv").write_text("\n".join(["filename\tscene_label", *rows]))
    for name, part in (("train", rows[:8]), ("evaluate", rows[8:])):
        table = root / "evaluation_setup" / f"fold1_{name}.csv"
        table.write_text("\n".join(["filename\tscene_label", *part]))
    return ()


def fsd50k(root):
    (root / "FSD50K.ground_truth").mkdir(parents=True)
    for part, numbers in (("dev", range(10)), ("eval", range(10, 14))):
        rows = ["fname,labels,mids,split"]
        for number in numbers:
            write(root / f"FSD50K.{part}_audio" / f"{number}.wav", number)
            split = "val" if number > 7 else "train"
            rows.append(f'{number},"{"ab"[number % 2]},Sound","/m/0,/m/1",{split}')
        (root / "FSD50K.ground_truth" / f"{part}.csv").write_text("\n".join(rows))
    return ()


def openmic(root):
    rows, keys = ["sample_key,instrument,relevance,num_responses"], []
    for number in range(12):
        keys.append(f"{number:03}_1")
        write(root / "audio" / keys[-1][:3] / f"{keys[-1]}.ogg", number)
        rows.append(f"{keys[-1]},{'ab'[number % 2]},{0.9 if number % 3 else 0.1},3")
    (root / "partitions").mkdir()
    (root / "openmic-2018-aggregated-labels.csv").write_text("\n".join(rows))
    (root / "partitions" / "split01_train.csv").write_text("\n".join(keys[:8]))
    (root / "partitions" / "split01_test.csv").write_text("\n".join(keys[8:]))
    return ()


def audioset(root):
    labels, rng = ZOO["mn01_as"].labels, np.random.default_rng(0)
    root.mkdir()
    for part, count in (("balanced_train", 8), ("eval", 6)):
        clips = []
        for number in range(count):
            time = np.arange(RATE // 2) / RATE
            tone = 0.3 * np.sin(2 * np.pi * 400 * (1 + number % 2) * time).astype(np.float32)
            content = b"damaged" if (part, number) == ("eval", 5) else as_mp3(tone, RATE)
            bits = rng.random(527) < 0.2
            clips.append(PackedRow(f"Y{part[:4]:a<10}{number}.mp3", content, np.packbits(bits)))
        write_packed(root / f"{part}_segments_mp3.hdf", clips, count, labels)
    return ()


def audioset_distill(root):
    audioset(root)
    np.save(root / "logits.npy", np.random.default_rng(1).normal(-4, 2, (8, 527)))
    rows = {f"{'bala':a<10}{number}": number for number in range(8)}
    (root / "logits.json").write_text(json.dumps(rows))
    return (f"teacher.predictions={root / 'logits.npy'}",)


def folder(root):
    for number in range(12):
        write(root / "ab"[number % 2] / f"{number}.wav", number)
    return ()


def panns(root):
    """Two classes in the layout of PANNs, with indexes of the clips to train and to test on."""
    labels = ("a", "b")
    for name, count in (("balanced_train", 8), ("eval", 4)):
        rows = []
        for number in range(count):
            time = np.arange(RATE // 2) / RATE
            tone = 0.3 * np.sin(2 * np.pi * 400 * (1 + number % 2) * time).astype(np.float32)
            bits = np.packbits([number % 2 == 0, number % 2 == 1])
            rows.append(PackedRow(f"Y{number}.wav", to_panns_int16(tone).tobytes(), bits))
        path = root / "hdf5s" / "waveforms" / f"{name}.h5"
        write_waveforms(path, rows, count, labels)
        write_panns_index(path, root / "hdf5s" / "indexes" / f"{name}.h5")
    more = ("objective.pairs.time_mask=8", "trainer.steps_per_epoch=2", "data.sampler=alternate")
    return ("model.backbone=cnn6", *more)


PLAIN = ("objective.pairs={mixup: 0, stripes: 1, time_mask: 3, freq_mask: 3}",)


def panns_transfer(root):
    return (*esc50(root), "data.format=esc50", *PLAIN, "trainer.epochs=10")


STATISTICS = {"panns": [f"{s}-000000{n}.csv" for s in ("test", "valid") for n in (4, 8)]}
LAYOUTS = {
    "panns": panns,
    "panns_transfer": panns_transfer,
    "esc50": esc50,
    "dcase20": dcase20,
    "fsd50k": fsd50k,
    "openmic": openmic,
    "audioset": audioset,
    "audioset_distill": audioset_distill,
    "finetune": folder,
}


DYNAMIC = ("model.backbone=dymn04_as", "model.width_mult=0.1")


def train(name, root, run, *more):
    own = LAYOUTS[name](root)
    recipe = load_recipe(name, [*TINY, "model.backbone=mn01_as", *own, *more])
    return build(recipe, [root], run, Accelerator(cpu=True))


def losses(run):
    """Return the losses of every step of a run that has ended."""
    return [row["loss"] for row in read_log(run.trainer.folder / "log.csv") if "loss" in row]


OTHERS = sorted(set(LAYOUTS) - {"audioset_distill"})


def test_every_recipe_is_tested():
    assert set(LAYOUTS) | {"classify", "distill"} | DETECTION == set(list_recipes())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tiny_run_of_a_recipe(name, tmp_path):
    run = train(name, tmp_path / "data", tmp_path / "run")
    weights = run.run()
    # Mixed pairs have other targets in every step; their loss is tested with the augmentation.
    assert losses(run)[-1] < losses(run)[0] or name == "panns"
    metadata = read_metadata(weights)
    assert metadata.labels == run.labels
    assert weights.name == "best.safetensors"
    evaluation = load_recipe(name).evaluation
    names = {
        *evaluation.metrics,
        *(f"{split}_{m}" for split in evaluation.also for m in evaluation.metrics),
    }
    assert set(metadata.metrics) <= names
    kept = [path.name for path in (tmp_path / "run" / "statistics").glob("*.csv")]
    assert sorted(kept) == STATISTICS.get(name, [])
    network = ZOO.load(str(weights))
    assert network.tap_shapes["logits"].channels == len(run.labels)


@pytest.mark.parametrize(
    "name", ["audioset_distill", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)]
)
def test_a_dynamic_network_in_every_recipe(name, tmp_path):
    run = train(name, tmp_path / "data", tmp_path / "run", *DYNAMIC)
    weights = run.run()
    assert losses(run)[-1] < losses(run)[0]
    assert read_metadata(weights).network == "DynamicMobileNet"
    assert ZOO.load(str(weights)).tap_shapes["logits"].channels == len(run.labels)


def test_a_checkpoint_of_an_early_epoch_keeps_its_temperature(tmp_path):
    """The best network of a run may be from an epoch in which the temperature was not 1 yet."""
    more = (*DYNAMIC, "model.temperature=9", "trainer.epochs=2", "trainer.validate_every=1")
    run = train("esc50", tmp_path / "data", tmp_path / "run", *more)
    weights = run.run()
    epoch = 0 if run.trainer.position.without_improvement else 1
    network = ZOO.load(str(weights))
    found = {m.temperature for m in network.modules() if isinstance(m, DynamicConv)}
    assert found == {9.0 - epoch}


def test_dynamic_networks_are_trained_with_a_falling_temperature(tmp_path):
    more = ("model.backbone=dymn04_as", "model.temperature=3", "trainer.epochs=3")
    run = train("esc50", tmp_path / "data", tmp_path / "run", *more)
    block = next(m for m in run.network.modules() if hasattr(m, "temperature"))
    seen = []
    run.run(lambda step, terms: seen.append(block.temperature))
    assert seen[::2] == pytest.approx([3.0, 2.0, max(1.0, 1 + 0.02 * 2 - 0.02 * 2)])


def test_clips_of_several_lengths_are_trained_on_and_evaluated_at_their_length(tmp_path):
    own = LAYOUTS["esc50"](tmp_path / "data")
    for number in range(0, 12, 3):
        path = tmp_path / "data" / "audio" / f"{number}.wav"
        samples, _ = soundfile.read(path)
        soundfile.write(path, samples[: RATE // 4], RATE)
    more = ("data.variable=true", "trainer.epochs=12", "trainer.optimiser.lr=4e-3")
    line = [*TINY, "model.backbone=mn01_as", *more, *own]
    recipe = load_recipe("esc50", line)
    run = build(recipe, [tmp_path / "data"], tmp_path / "run", Accelerator(cpu=True))
    weights = run.run()
    assert sum(losses(run)[-4:]) < sum(losses(run)[:4])
    _, found = evaluate_network(recipe, [tmp_path / "data"], "", weights)
    assert len(found.names) == 4
    for wrong, message in {
        "model.head=fully_convolutional": "needs a network with the head mlp",
        "teacher={networks: [mn01_starter]}": "is for clips with labels or stored predictions",
    }.items():
        with pytest.raises(ConfigError, match=message):
            build(
                load_recipe("esc50", [*line, "objective.loss=bce", wrong]),
                [tmp_path / "data"],
                tmp_path / "wrong",
                Accelerator(cpu=True),
            )


def test_a_changed_architecture_is_trained_from_random_weights(tmp_path):
    more = ("model.width_mult=0.1", "model.head=fully_convolutional", "model.se_dims=f")
    run = train("esc50", tmp_path / "data", tmp_path / "run", "model.backbone=mn10_as", *more)
    weights = run.run()
    arguments = read_metadata(weights).arguments
    assert (arguments["width"], arguments["se_dims"]) == (0.1, "f")
    recipe = load_recipe("esc50", [*more, "data.fold=2"])
    with pytest.raises(ConfigError, match="no weights were released"):
        build(recipe, [tmp_path / "data"], tmp_path / "other", Accelerator(cpu=True))


def test_a_test_equals_scikit_learn_and_counts_corrupt_clips(tmp_path):
    audioset(tmp_path / "data")
    recipe = load_recipe("audioset", ["data.seconds=0.5", "data.batch_size=4"])
    _, found = evaluate_network(recipe, [tmp_path / "data"], "mn01_starter")
    assert list(found.failed) == ["Yevalaaaaaa5.mp3"]
    metrics = found.metrics(("mAP", "aucroc", "d_prime"))
    some = [c for c in range(527) if 0 < found.targets[:, c].sum() < len(found.targets)]
    scores, targets = found.logits, found.targets
    areas = [roc_auc_score(targets[:, c], scores[:, c]) for c in some]
    precisions = [
        average_precision_score(targets[:, c], scores[:, c]) if targets[:, c].any() else 0.0
        for c in range(527)
    ]
    assert metrics["aucroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert metrics["mAP"] == pytest.approx(np.mean(precisions), abs=1e-6)


def test_the_folder_of_a_run_is_a_model(tmp_path):
    run = train("finetune", tmp_path / "data", tmp_path / "run")
    weights = run.run()
    clip = next((tmp_path / "data").glob("a/*.wav"))
    scores, _ = EATagger(tmp_path / "run").tag(clip)
    np.testing.assert_array_equal(scores, EATagger(weights).tag(clip)[0])
    assert "passed" in hear("export", tmp_path / "run", tmp_path / "run.onnx", "--probabilities")
    session = onnxruntime.InferenceSession(tmp_path / "run.onnx")
    samples = read_audio(clip, RATE).numpy()
    (found,) = session.run(None, {"waveform": samples[None]})
    np.testing.assert_allclose(found[0], scores, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["labels"] == '["a", "b"]'


def test_the_test_command(tmp_path):
    run = train("esc50", tmp_path / "data", tmp_path / "run")
    weights = run.run()
    line = [
        "test",
        "esc50",
        "--data",
        tmp_path / "data",
        "--model",
        weights,
        "--set",
        "data.fold=2",
    ]
    line += ["--set", "data.seconds=0.5", "--per-class", tmp_path / "classes.csv"]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    assert "4 clips, 0 skipped" in result.output
    assert "top1_acc: " in result.output
    rows = (tmp_path / "classes.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["label", "a", "b"]


WRONG = {
    "trainer.epoch=3": "unknown key 'epoch'; did you mean 'epochs'",
    "trainr.epochs=3": "unknown key 'trainr'; did you mean 'trainer'",
    "trainer.epochs=many": "trainer: epochs must be a whole number below 1e18, not 'many'",
    "data.format=esc": "unknown data format 'esc'; did you mean 'esc50'",
    "trainer.optimiser.name=adm": "unknown optimiser 'adm'",
    "objective.loss=mse": "unknown loss 'mse'",
    "waveforms.mix=2": "mix from 0 to 1",
    "trainer.epochs": "must have the form key.path=value",
    "trainer.epochs=2001-99-99": "the value of 'trainer.epochs=2001-99-99' is not valid YAML",
    f"trainer.epochs={'[' * 5000}": "is nested more than 32 levels deep",
    f"trainer.optimiser.lr={'9' * 401}": "lr must be a finite number, not 9",
    "trainer.optimiser.lr=.inf": "lr must be a finite number, not inf",
    "data.test_share=.nan": "test_share must be a finite number, not nan",
    f"trainer.epochs={'9' * 30}": "epochs must be a whole number below 1e18, not 9",
    'data.cache="\\0"': "cache must be of type str, not '\\x00'",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_key_or_value_names_itself_and_the_nearest(override):
    with pytest.raises(ConfigError) as caught:
        load_recipe("esc50", [override])
    assert WRONG[override] in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: {fold: 2001-99-99}", "is not valid YAML: month must be in"),
        ("[" * 5000, "is nested more than 32 levels deep"),
        ("trainer: {epochs: 3}\ntrainer: {seed: 1}", "'trainer' is listed more than once"),
        ("- 1", "must map names to values"),
    ],
)
def test_a_file_that_is_not_a_recipe(tmp_path, content, message):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(tmp_path / "own.yaml")
    assert "own.yaml" in str(caught.value)


def test_recipes_are_listed_and_shown():
    listed = CliRunner().invoke(app, ["train", "--list"])
    assert [line.split()[0] for line in listed.output.splitlines()] == list_recipes()
    shown = CliRunner().invoke(app, ["train", "esc50", "--show"])
    assert "lr: 6.0e-5" in shown.output
    with pytest.raises(ConfigError, match="unknown recipe 'esc5'; did you mean 'esc50'"):
        load_recipe("esc5")


def test_an_empty_fold_is_named(tmp_path):
    esc50(tmp_path / "data")
    recipe = load_recipe("esc50", ["data.fold=7"])
    with pytest.raises(ConfigError, match=r"no clip in fold 7; the folds are \[1, 2\]"):
        build(recipe, [tmp_path / "data"], tmp_path / "run", Accelerator(cpu=True))


def test_a_run_folder_runs_no_code(tmp_path):
    """A state is JSON and safetensors; a pickle in its folder is not touched."""
    run = train("esc50", tmp_path / "data", tmp_path / "run")
    run.run()
    state = next((tmp_path / "run").glob("state-*"))
    assert {file.suffix for file in state.iterdir()} == {".json", ".safetensors"}
    (state / "custom_checkpoint_0.pkl").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    recipe = load_recipe("esc50", [*TINY, "model.backbone=mn01_as", "data.fold=2"])
    build(recipe, [tmp_path / "data"], tmp_path / "run", Accelerator(cpu=True))
    (state / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"weights\.safetensors is damaged"):
        build(recipe, [tmp_path / "data"], tmp_path / "run", Accelerator(cpu=True))
    (state / "state.json").write_text("{")
    with pytest.raises(ConfigError, match=r"state\.json is not valid JSON"):
        build(recipe, [tmp_path / "data"], tmp_path / "run", Accelerator(cpu=True))
