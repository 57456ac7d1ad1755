"""Predictions from audio files: windows, formats, broken files, official files."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest
import soundfile
import torch
from fixtures import Mistake
from small_model import write_model

from passt_bench.cli import main
from passt_bench.data import scan
from passt_bench.errors import InputError
from passt_bench.models import create_model, read_model, save_model
from passt_bench.models.ensemble import Ensemble, build_ensemble
from passt_bench.models.frontend import make_frontend
from passt_bench.published_weights import PUBLISHED
from passt_bench.runner.predict import (
    as_text,
    cut_windows,
    find_audio,
    place_windows,
    predict_file,
    predict_files,
)

Predict = Callable[..., tuple[int, str, str]]
CLASSES = ("dog", "cat", "rain, heavy")


def _wave(path: Path, seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    random = np.random.default_rng(round(100 * seconds) + rate)
    audio = (0.1 * random.standard_normal((round(seconds * rate), channels))).astype(np.float32)
    soundfile.write(path, audio, rate, subtype="FLOAT")
    return audio.mean(axis=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m.safetensors", CLASSES)


@pytest.fixture(scope="module")
def ensemble(model: Path) -> Ensemble:
    return build_ensemble(model)


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Runs `passt-bench predict`; its exit status, output and messages."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["passt-bench", "predict", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.mark.parametrize(
    ("samples", "hop", "starts"),
    [
        (1, 8, [0]),
        (8, 8, [0]),
        (9, 8, [0, 1]),
        (16, 8, [0, 8]),
        (20, 4, [0, 4, 8, 12]),
        (40, 20, [0, 20, 32]),
    ],
)
def test_windows_cover_the_audio_and_end_with_it(samples: int, hop: int, starts: list[int]) -> None:
    wave = np.arange(1, samples + 1, dtype=np.float32)

    def read(start: int, count: int) -> np.ndarray:
        assert start + count <= max(4, samples)  # zeros only where a clip is longer
        return np.pad(wave, (0, 4))[start : start + count]

    places = place_windows(samples, clip=4, window=8, hop=hop)
    parts = list(cut_windows(read, *places, hop))
    windows = np.concatenate([windows for _, windows in parts])
    assert [start for found, _ in parts for start in found] == starts
    assert [int(window[0]) - 1 for window in windows] == starts
    assert windows.shape[1] == max(4, min(samples, 8))
    assert hop > 8 or set(wave) <= set(windows.ravel())
    if samples >= 8:
        assert windows[-1, -1] == wave[-1]


def test_one_window_is_the_models_own_answer(ensemble: Ensemble, tmp_path: Path) -> None:
    wave = _wave(tmp_path / "a.wav", 0.6, channels=2)
    padded = torch.from_numpy(np.pad(wave, (0, 16000 - len(wave))))[None]
    member = ensemble.members[0]
    with torch.no_grad():
        x = make_frontend(member.recipe.frontend).eval()(padded)
        wanted = dict(zip(CLASSES, member.net(x).sigmoid()[0].tolist(), strict=True))
    got = predict_file(ensemble, tmp_path / "a.wav")
    assert (len(got.windows), got.seconds) == (1, pytest.approx(0.6))
    assert dict(got.probabilities) == pytest.approx(wanted)
    assert [name for name, _ in got.probabilities] == sorted(wanted, key=wanted.__getitem__)[::-1]


def test_long_audio_is_the_mean_over_windows(ensemble: Ensemble, tmp_path: Path) -> None:
    wave = _wave(tmp_path / "long.wav", 2.5)
    for name, start in (("1", 0), ("2", 16000), ("3", 24000)):
        soundfile.write(tmp_path / f"{name}.wav", wave[start : start + 16000], 16000, "FLOAT")
    with TemporaryFile() as rows:
        whole = predict_file(ensemble, tmp_path / "long.wav", rows=rows)
        windows = list(whole.windows)
    assert len(whole.windows) == len(windows) == 3
    parts = [dict(predict_file(ensemble, tmp_path / f"{n}.wav").probabilities) for n in "123"]
    for name, p in whole.probabilities:
        assert p == pytest.approx(np.mean([part[name] for part in parts]), abs=1e-6)
    by_window = [dict(part.probabilities) for part in windows]
    assert by_window == [pytest.approx(part) for part in parts]
    assert [(part.start, part.end) for part in windows] == [(0, 1), (1, 2), (1.5, 2.5)]
    loudest = dict(predict_file(ensemble, tmp_path / "long.wav", pool="max").probabilities)
    assert loudest == pytest.approx({n: max(p[n] for p in parts) for n in CLASSES}, abs=1e-6)
    assert len(predict_file(ensemble, tmp_path / "long.wav", hop=0.25).windows) == 7


def test_windows_and_embeddings_are_written(tmp_path: Path, predict: Predict) -> None:
    audio, out = tmp_path / "long.wav", tmp_path / "found.npz"
    _wave(audio, 2.5)
    words = (audio, "--checkpoint", write_model(tmp_path / "m", CLASSES), "--windows", "--top", 1)
    status, text, _ = predict(*words, "--format", "csv", "--embeddings", out)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["start"], row["end"]) for row in rows] == [("0", "1"), ("1", "2"), ("1.5", "2.5")]
    with np.load(out) as arrays:
        assert arrays["embedding"].shape == (3, 16)
        assert arrays["start"].tolist() == [0, 1, 1.5]
        assert set(arrays["file"]) == {str(audio)}
    assert " 1.50 to 2.50 s" in predict(*words)[1].splitlines()
    (parts,) = json.loads(predict(*words, "--format", "json")[1])
    assert [part["end"] for part in parts["by_window"]] == [1, 2, 2.5]


def test_any_rate_and_length_and_one_class_or_several(ensemble: Ensemble, tmp_path: Path) -> None:
    for rate, seconds in ((8000, 1.0), (44100, 0.001), (48000, 1.7), (16000, 1.0)):
        _wave(tmp_path / "x.wav", seconds, rate)
        got = predict_file(ensemble, tmp_path / "x.wav")
        assert got.seconds == pytest.approx(seconds, abs=1e-3)
        assert all(0 < p < 1 for _, p in got.probabilities)
    assert sum(dict(got.probabilities).values()) != pytest.approx(1, abs=1e-3)
    softmax = build_ensemble(write_model(tmp_path / "m", CLASSES, loss="ce"))
    one = predict_file(softmax, tmp_path / "x.wav")
    assert sum(dict(one.probabilities).values()) == pytest.approx(1)
    wave = _wave(tmp_path / "x.wav", 0.5)
    for other, said in ((wave, False), (-wave, True)):
        soundfile.write(tmp_path / "x.wav", np.stack([wave, other], axis=1), 16000)
        (text, *_) = as_text([predict_file(softmax, tmp_path / "x.wav")], 1)
        assert ("1 window; its channels cancel: mixed" in text) is said
    parts = np.stack([_wave(tmp_path / "x.wav", 3.0)] * 2, axis=1)
    parts[16000:32000, 1] *= -1  # of the whole file, two thirds are left
    soundfile.write(tmp_path / "a\nb.wav", parts, 16000)
    (text, *_) = as_text([predict_file(softmax, tmp_path / "a\nb.wav")], 1)
    assert "a\\nb.wav" in text and text.count("\n") == 1
    assert "its channels cancel in a part of it: mixed" in text


def test_folders_are_searched_and_files_taken_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    taken = ("b.WAV", "c.caf", "d.m4a", "deep/a.flac", "e.w64")
    for name in (*taken, "._a.wav", "notes.txt", "more.TXT", "README"):
        (tmp_path / name).write_bytes(b"x")
    found, skipped = find_audio([tmp_path, tmp_path / "b.WAV", tmp_path / "notes.txt"])
    assert found == [tmp_path / name for name in (*taken, "notes.txt")]
    assert sorted(skipped.split(", ")) == ["1 without", "2 .txt"]
    listed = scan.find_audio(tmp_path, [""], {Path(name).stem for name in taken} | {"._a"})
    assert sorted(listed.values()) == sorted(taken)
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "no audio files"), (tmp_path / "no", "no such")):
        with pytest.raises(InputError, match=message):
            find_audio([path])


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_a_file_that_cannot_be_answered_leaves_the_others(
    form: str, model: Path, tmp_path: Path, predict: Predict
) -> None:
    """A sample of 1e29, a name that is not UTF-8, and a letter that an encoding lacks."""
    wave = _wave(tmp_path / "grün.wav", 1.0)
    soundfile.write(tmp_path / "loud.wav", np.r_[1e29, wave], 16000, subtype="FLOAT")
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes((tmp_path / "grün.wav").read_bytes())
    output = tmp_path / "out"
    for more in ((), ("--output", output)):
        status, out, err = predict("--checkpoint", model, tmp_path, "--format", form, *more)
        assert (status, "loud.wav: the file holds a sample of 1e+29" in err) == (1, True)
        text = output.read_text() if more else out
        assert "grün.wav" in text and "caf\\udce9.wav" in text and "nan" not in text
    if form == "json":
        assert [len(file) for file in json.loads(text)] == [4, 4, 2]


def test_memory_is_enough_for_a_hop_of_a_sample() -> None:
    places = place_windows(10**15, 16000, 16000, 1)  # samples of the audio
    windows = cut_windows(lambda start, count: np.zeros(count), *places, 1)
    assert [next(windows)[1].shape for _ in range(2)] == [(8, 16000), (8, 16000)]


def test_the_last_window_adds_at_least_a_hundredth() -> None:
    found = [place_windows(160000 + n, 160000, 160000, 160000)[2] for n in (0, 32, 1599, 1600)]
    assert found == [1, 1, 1, 2]
    assert place_windows(321599, 160000, 160000, 160000)[2] == 2


def test_too_little_memory_fails_that_file_alone(
    ensemble: Ensemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    _wave(paths[0], 1.5)  # two windows
    _wave(paths[1], 0.5)
    real = Ensemble.probabilities

    def probabilities(self: Ensemble, logits: torch.Tensor) -> torch.Tensor:
        return real(self, logits) if len(logits) == 1 else torch.zeros(10**14)

    monkeypatch.setattr(Ensemble, "probabilities", probabilities)
    found = list(predict_files(ensemble, paths))
    assert [result.error.partition(": ")[2] for result in found] == [
        "not enough memory for it.",
        "",
    ]


def test_the_command_writes_text_csv_json(model: Path, tmp_path: Path, predict: Predict) -> None:
    audio, output = tmp_path / "a.wav", tmp_path / "deep" / "p.json"
    _wave(audio, 1.5)
    two = (model, write_model(tmp_path / "other", CLASSES, seed=1))
    words = ("--checkpoint", model, "--checkpoint", two[1], audio)
    status, out, err = predict(*words, "--top", 2)
    lines = out.splitlines()
    assert (status, lines[0], len(lines)) == (0, f"{audio} (1.50 s, 2 windows)", 3)
    assert "Predicting 1 file" in err
    rows = list(csv.DictReader(io.StringIO(predict(*words, "--top", 2, "--format", "csv")[1])))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert predict(*words, "--format", "json", "--output", output)[0] == 0
    (found,) = json.loads(output.read_text())
    assert (found["file"], found["windows"]) == (str(audio), 2)
    named = {p["class"]: p["probability"] for p in found["predictions"]}
    assert [row["class"] for row in rows] == list(named)[:2]
    mean = dict(predict_file(build_ensemble(two), audio).probabilities)
    assert named == pytest.approx(mean, abs=1e-5)


def test_a_broken_file_does_not_stop_others(model: Path, tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF, but no more")
    _wave(tmp_path / "b.wav", 1.0)
    status, out, err = predict("--checkpoint", model, tmp_path, "--format", "json")
    broken, good = json.loads(out)
    assert (status, err.count("error:")) == (1, 1)
    assert "not readable as audio" in broken["error"]
    assert len(good["predictions"]) == 3


@pytest.mark.parametrize(
    ("name", "logit", "heard"),
    [
        ("passt_s_swa_p16_s16_128_ap473", 137, "Music"),
        ("esc50_fold3", 42, "siren"),
        ("openmic", 19, "voice"),
    ],
)
def test_official_files_speak_by_name(
    name: str, logit: int, heard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predict:
    Predict,
) -> None:  # fmt: skip
    """Small files with the names and shapes of released ones, which always hear one class."""
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path))
    entry = PUBLISHED[name]
    shape = {"width": 64, "depth": 1, "heads": 1, "stride": entry.stride or 10}
    net = create_model("passt_s", entry.classes, **shape)
    net.head[1].bias.data[logit] = 9.0
    torch.save(net.state_dict(), tmp_path / entry.file)
    _wave(tmp_path / "a.wav", 1.0, 8000)
    status, out, err = predict("--checkpoint", name, tmp_path / "a.wav")
    assert (status, len(out.splitlines())) == (0, 11)
    assert out.splitlines()[1].split(maxsplit=1)[1] == heard
    assert "note:" not in err


def test_a_head_without_names_is_told(model: Path, tmp_path: Path, predict: Predict) -> None:
    net = create_model("passt_s", 3, width=64, depth=1, heads=1, stride=16)
    own, audio, names = (tmp_path / name for name in ("own.pt", "a.wav", "names.txt"))
    torch.save(net.state_dict(), own)
    _wave(audio, 1.0, 8000)
    status, out, err = predict("--checkpoint", own, audio, "--format", "json")
    (found,) = json.loads(out)
    assert (status, len(found["predictions"])) == (0, 3)
    assert {p["class"] for p in found["predictions"]} == {"class 0", "class 1", "class 2"}
    assert "no class names" in err and "--labels FILE" in err
    assert "own.pt: not all of this is stated in the file: 32000 Hz" in found["notes"][0]
    names.write_text("eins\nzwei\n\ndrei\n", encoding="utf-8-sig")
    for path in (own, model):  # without names or with its own
        _, out, err = predict("--checkpoint", path, audio, "--labels", names)
        assert "  eins\n" in out and "zwei" in out and "no class names" not in err


@pytest.mark.parametrize(
    ("words", "source", "field"),
    [
        ("--checkpoint none.pt a.wav", None, "--checkpoint"),
        ("a.wav", None, "--checkpoint"),
        ("--checkpoint stfthop100 a.wav", None, "weights"),
        ("--checkpoint m b.wav", "b.wav", None),
        ("--checkpoint m a.wav --hop 0", None, "--hop"),
        ("--checkpoint m a.wav --output .", None, "--output"),
        ("--checkpoint m a.wav --output a.wav/p.json", "a.wav", "--output"),
        ("--checkpoint m a.wav --embeddings a.wav/p.npz", "a.wav", "--embeddings"),
        ("--checkpoint m a.wav --labels no.txt", "no.txt", None),
        ("--checkpoint a.wav a.wav", "a.wav", None),
    ],
)
def test_bad_input_is_refused(
    words: str, source: str | None, field: str | None, model: Path, tmp_path: Path, monkeypatch:
    pytest.MonkeyPatch, mistake: Mistake,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(tmp_path / "weights"))
    Path("m").symlink_to(model)
    _wave(Path("a.wav"), 1.0)
    error = mistake("predict", *words.split())
    assert error.field == field
    assert source is None or str(error.source) == source


def test_decisions_are_the_top_class_or_by_thresholds(tmp_path: Path, predict: Predict) -> None:
    audio = tmp_path / "a.wav"
    _wave(audio, 1.0)
    plain = write_model(tmp_path / "plain", CLASSES)
    found = dict(predict_file(build_ensemble(plain), audio).probabilities)
    for name, thresholds in (("some", (0.0, 1.0, found[CLASSES[2]])), ("none", (1.0, 1.0, 1.0))):
        net, recipe, _ = read_model(plain)
        net.thresholds = thresholds
        save_model(tmp_path / name, net, recipe, CLASSES)
        assert read_model(tmp_path / name).net.thresholds == thresholds
    words = (audio, "--decide", "--format", "csv", "--checkpoint")
    decided = {}
    for name in ("some", "none", "plain", write_model(tmp_path / "ce", CLASSES, loss="ce").name):
        _, text, err = predict(*words, tmp_path / name)
        decided[name] = [row["class"] for row in csv.DictReader(io.StringIO(text))]
        assert ("no thresholds" in err) == (name == "plain")
    assert sorted(decided["some"]) == ["dog", "rain, heavy"] and decided["none"] == [""]
    assert set(decided["plain"]) == ({n for n, p in found.items() if p >= 0.5} or {""})
    assert decided["ce"] == [max(found, key=found.__getitem__)]
    assert "  no class" in predict(audio, "--decide", "--checkpoint", tmp_path / "none")[1]
