"Sounds that the test makes: pitch classes, keys, segments, and files that are no sound."

import numpy as np
import pytest

from msd_genre.files.song_schema import PITCH_CLASSES, _validate_segments

pytest.importorskip("librosa", reason="the extra `audio` is not installed")
soundfile = pytest.importorskip("soundfile")
from msd_genre.inference import audio

RATE = 22_050


def chord(notes, seconds=0.6, rate=RATE):
    """Tones with overtones, in semitones above middle C, that fade."""
    t = np.arange(int(seconds * rate)) / rate
    partials = [np.sin(2 * np.pi * 261.63 * 2 ** (note / 12) * n * t) / n**2
                for note in notes for n in range(1, 6)]
    return 0.2 * np.exp(-3 * t) * sum(partials)


def heard(folder, sound, rate=RATE):
    soundfile.write(folder / "sound.wav", sound, rate)
    return audio.analyse_sound(folder / "sound.wav")


def middles(seen):
    """Seconds in the middle of each segment."""
    starts = seen.segments.start_s
    return starts + np.diff([*starts, seen.metadata["duration_s"]]) / 2


def test_a_scale_comes_out_as_its_notes(tmp_path):
    steps = [0, 2, 4, 5, 7, 9, 11, 12]
    seen = heard(tmp_path, np.concatenate([chord([s]) for s in steps]))
    _validate_segments(seen.segments)
    assert (seen.segments.chroma.max(axis=1) == 1).all()
    played = [steps[int(middle / 0.6)] % 12 for middle in middles(seen)]
    assert seen.segments.chroma.argmax(axis=1).tolist() == played
    assert set(played) == {s % 12 for s in steps}
    assert (PITCH_CLASSES[seen.metadata["key"]], seen.metadata["mode"]) == ("C", 1)


def test_a_progression_comes_out_as_its_chords_and_key_at_another_rate(tmp_path):
    chords = [(9, 12, 16), (2, 5, 9), (4, 8, 11), (9, 12, 16)] * 2  # Am Dm E Am
    sound = np.concatenate([chord(c, 0.8, 44_100) for c in chords])
    seen = heard(tmp_path, np.stack([sound, sound], axis=1), 44_100)
    for middle, chroma in zip(middles(seen), seen.segments.chroma, strict=True):
        notes = {note % 12 for note in chords[int(middle / 0.8)]}
        assert set(np.argsort(chroma)[-3:]) == notes
    assert (PITCH_CLASSES[seen.metadata["key"]], seen.metadata["mode"]) == ("A", 0)
    assert seen.metadata["duration_s"] == pytest.approx(6.4, abs=0.01)


def test_noise_has_no_pitch_and_timbre_in_the_msd_range(tmp_path):
    seen = heard(tmp_path, 0.1 * np.random.default_rng(0).normal(size=4 * RATE))
    _validate_segments(seen.segments)
    assert seen.segments.chroma.mean() > 0.6  # near 1 for all twelve; a tone has about 0.1
    assert np.abs(seen.segments.timbre).max() < 600


def test_a_louder_sound_has_more_of_the_first_component(tmp_path):
    noise = np.random.default_rng(0).normal(size=3 * RATE)
    soft, loud = (heard(tmp_path, gain * noise).segments.timbre for gain in (0.0003, 0.003))
    assert soft[:, 0].mean() < loud[:, 0].mean()


def test_moments_are_matched_at_both_levels():
    ours, theirs = audio._audio_moments(), audio._msd_moments()
    rng = np.random.default_rng(0)
    songs = [rng.normal(rng.normal(ours.mean, ours.between), ours.within, (200, 12))
             for _ in range(400)]
    mapped = [audio._to_echo_nest_scale(song, ours, theirs) for song in songs]
    means = np.array([song.mean(axis=0) for song in mapped])
    assert np.allclose(means.mean(axis=0), theirs.mean, atol=0.2 * theirs.between)
    assert np.allclose(means.std(axis=0), theirs.between, rtol=0.15)
    assert np.allclose(np.median([song.std(axis=0) for song in mapped], axis=0), theirs.within,
                       rtol=0.05)


@pytest.mark.parametrize("name, content, message", [
    ("a.wav", b"Dear listener", "no sound that can be read"),
    ("a.mp3", b"\xff\xfb\x90", "no sound that can be read"),
    ("a.flac", b"", "no sound that can be read"),
    ("a.wav", np.zeros(3 * RATE), "silence"),
    ("a.wav", np.ones(RATE // 3), "0.33 s of sound, expected 1.0 s"),
    ("a.wav", None, "no sound file"),
])  # fmt: skip
def test_what_is_no_sound_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, RATE)
    with pytest.raises(audio.AudioError, match=message):
        audio.analyse_sound(path)


def test_without_librosa_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(audio.AudioError, match=r'pip install "msd_genre\[audio\]"'):
        audio._read_sound(tmp_path / "a.wav")


def test_sounds_become_song_files_that_the_join_and_the_store_take(tmp_path):
    from msd_genre.corpus import catalog, features
    from msd_genre.files.song_file import read_song
    from msd_genre.workspace import runs

    notes = np.concatenate([chord([s]) for s in (0, 4, 7)])
    soundfile.write(tmp_path / "a.wav", notes, RATE)
    corpus = tmp_path / "corpus"
    paths = [audio.write_song_file(tmp_path / "a.wav", corpus, "Åse", title, year=1999)
             for title in ("Up", "Down")]
    assert audio.write_song_file(tmp_path / "a.wav", corpus, "Åse", "Up") == paths[0]
    song, heard = read_song(paths[1]), audio.analyse_sound(tmp_path / "a.wav")
    assert np.array_equal(song.segments.chroma, heard.segments.chroma)
    said = song.metadata
    assert (said["artist_name"], said["title"], said["year"]) == ("Åse", "Down", 1999)
    assert said["loudness_db"] == heard.metadata["loudness_db"] < 0 and said["tempo_bpm"] == 0
    (corpus / "own.cls").write_text("".join(f"{path.stem}\tSteps\n" for path in paths))
    options = {"genres": "any", "drop_mismatches": False, "lyrics": None, "min_segments": 0}
    params = {"seed": 1, "data": {"folder": str(corpus)}, "catalog": options}
    run = runs.create_run(params, tmp_path / "run")
    kept = catalog.kept(catalog.build_catalog(run))
    assert kept["track_id"].tolist() == sorted(path.stem for path in paths)
    assert kept["artist_id"].nunique() == 1 and kept["song_id"].nunique() == 2
    assert len(set(features.build_store(run).recordings)) == 1
    assert not list(corpus.rglob("*.partial"))


@pytest.mark.parametrize("artist, title", [("", "Up"), ("Åse", "  ")])
def test_a_song_file_needs_its_names(tmp_path, artist, title):
    soundfile.write(tmp_path / "a.wav", chord([0]), RATE)
    with pytest.raises(audio.AudioError, match="both need a name"):
        audio.write_song_file(tmp_path / "a.wav", tmp_path, artist, title)
    assert not list(tmp_path.rglob("*.h5"))
