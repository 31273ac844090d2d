"""Bags of words as a plain reader reads them, rows set aside, formats of vectors, weightings."""

import gzip

import numpy as np
import pytest
from gensim import downloader
from gensim.models import KeyedVectors
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

from msd_genre.datasets.musixmatch import (
    LyricError,
    _guess_languages,
    read_counts,
    read_reverse_mapping,
)  # fmt: skip
from msd_genre.datasets.word_vectors import (
    WEIGHTINGS,
    _word_weights,
    coverage,
    fit_idf,
    load_vectors,
    lyric_vectors,
    stem_vectors,
)  # fmt: skip
from msd_genre.files.text import _SET_ASIDE
from msd_genre.workspace.paths import SourceError

HEAD = "# invented\n%the,danc,night,zzyx\n"


@pytest.fixture
def mxm(tmp_path):
    def write(text, name="train.txt"):
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8"))
        return path

    return write


@pytest.fixture
def counts():
    rng = np.random.default_rng(5)
    return sparse.csr_array(rng.poisson(0.7, size=(30, 12)).astype(np.int32))


# Bags of words


def read_whole(paths):
    """Read files of which nothing may be set aside."""
    lyrics, aside = read_counts(paths)
    assert aside.empty and list(aside.columns) == _SET_ASIDE
    return lyrics


def plain_rows(path):
    """An independent reader: one row at a time, by the format's own description."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line and line[0] not in "#%":
            track, _, *pairs = line.split(",")
            yield track, {int(i): int(n) for i, n in (pair.split(":") for pair in pairs)}


def test_real_counts_read_as_a_plain_reader_reads_them(real_msd):
    paths = {s: real_msd / "musixmatch" / f"mxm_dataset_{s}.txt" for s in ("train", "test")}
    lyrics = read_whole(paths)
    assert lyrics.counts.shape == (1_737 + 8_259, 5_000)
    assert lyrics.counts.dtype == np.int32
    assert np.unique(lyrics.split, return_counts=True)[1].tolist() == [8_259, 1_737]
    rows = [row for path in paths.values() for row in plain_rows(path)]
    assert lyrics.track_ids.tolist() == [track for track, _ in rows]
    for i, (_, expected) in enumerate(rows):
        start, end = lyrics.counts.indptr[i : i + 2]
        indices = (lyrics.counts.indices[start:end] + 1).tolist()
        assert dict(zip(indices, lyrics.counts.data[start:end].tolist(), strict=True)) == expected
    assert lyrics.stems[:5] == ["i", "the", "you", "to", "and"]


def test_indices_count_from_one_and_need_no_order(mxm):
    lyrics = read_whole({"train": mxm(HEAD + "TRA,1,4:7,1:2\n")})
    assert lyrics.counts.toarray().tolist() == [[2, 0, 0, 7]]
    assert lyrics.counts.has_sorted_indices


def test_two_files_in_the_given_order(mxm):
    train, test = mxm(HEAD + "TRB,1,2:1\n"), mxm(HEAD + "TRA,1,3:1\n", "test.txt")
    lyrics = read_whole({"train": train, "test": test})
    assert lyrics.track_ids.tolist() == ["TRB", "TRA"]
    assert lyrics.split.tolist() == ["train", "test"]
    assert lyrics.counts.toarray().tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


def test_line_ends_of_windows(mxm):
    path = mxm((HEAD + "TRA,1,1:2,4:1\n").replace("\n", "\r\n"))
    lyrics = read_whole({"train": path})
    assert lyrics.stems[-1] == "zzyx" and lyrics.counts.toarray().tolist() == [[2, 0, 0, 1]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("TRB,1", "too few fields"),
        ("TRB,1,", "too few fields"),
        ("TRB,1,1:2,", "too few fields"),
        ("TRB,1,1:2,3", "too few fields"),
        ("TRB,1,1:2,,3:1", "too few fields"),
        ("TRB,1,1:2:3", "too few fields"),
        ("TRB,1,1,2:3:4", "too few fields"),
        ("TRB,1,1:-2", "negative count"),
        ("TRB,1,-1:2", "index out of range"),
        ("TRB,1,0:1", "index out of range"),
        ("TRB,1,5:1", "index out of range"),
        ("TRB,1,2:0", "count of 0"),
        ("TRB,1,2:1,3:1,2:4", "index repeated"),
        ("TRB,1,3:1,2:1,3:1", "index repeated"),
        ("TRB,1,1:2.5", "not a number"),
        ("TRB,1,x:2", "not a number"),
        ("TRB,1, 1:2", "not a number"),
        ("TRB,1,1:9999999999", "number too large"),
        ("TRB,one,1:2", "not a number"),
        ("SOB,1,1:2", "track id of the wrong form"),
        ("TRB\t1\t1:2", "track id of the wrong form"),
        ("TRA,1,1:2", "repeated"),
        ("TRB,1,1:\xff", "not UTF-8"),
        ("TRB,1,1:\0", "control byte"),
    ],
)
def test_a_row_with_a_fault_costs_no_other_row(tmp_path, row, reason):
    path = tmp_path / "train.txt"
    text = HEAD + f"TRA,1,1:2\n\n# comment\n{row}\nTRC,1,3:4,1:1\n"
    path.write_bytes(text.encode("latin-1"))
    lyrics, aside = read_counts({"train": path})
    assert lyrics.track_ids.tolist() == ["TRA", "TRC"]
    assert lyrics.counts.toarray().tolist() == [[2, 0, 0, 0], [1, 0, 4, 0]]
    assert aside.drop(columns="found").to_numpy().tolist() == [["train.txt", 6, reason]]


def test_the_pair_that_cannot_be_is_shown(mxm):
    path = mxm(HEAD + "TRA,1,1:2\nTRB,1,1:1,5001:3,2:1\n")
    assert read_counts({"train": path})[1]["found"].tolist() == ["TRB,...,5001:3"]


def test_a_track_of_both_files_counts_in_the_first(mxm):
    train = mxm(HEAD + "TRA,1,2:1\n")
    test = mxm(HEAD + "TRB,1,1:1\nTRA,1,3:1\nTRC,1,1:1\n", "test.txt")
    lyrics, aside = read_counts({"train": train, "test": test})
    assert lyrics.track_ids.tolist() == ["TRA", "TRB", "TRC"]
    assert lyrics.split.tolist() == ["train", "test", "test"]
    assert lyrics.counts.sum(axis=0).tolist() == [2, 1, 0, 0]
    assert aside.iloc[0].tolist() == ["test.txt", 4, "repeated", "TRA"]


def test_a_file_of_which_most_rows_are_wrong_is_refused(mxm):
    rows = "TRA,1,1:1\nTRB,1,0:1\nTRC,1,0:2\n"
    with pytest.raises(LyricError, match=r"2 of 3 .*: index out of range.* line 4.*TRB,...,0:1"):
        read_counts({"train": mxm(HEAD + rows)})
    assert len(read_counts({"train": mxm(HEAD + rows + "TRD,1,1:1\n")})[1]) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TRA,1,1:2\n", "one line `%stem,stem,...`, found 0"),
        (HEAD + HEAD, "found 2"),
        ("%a,b,a\n", "line 1: expected stems"),
        ("%a,,b\n", "line 1: expected stems"),
        ("", "found 0"),
    ],
)
def test_the_line_of_stems(mxm, text, expected):
    with pytest.raises(LyricError, match=expected):
        read_counts({"train": mxm(text)})


def test_files_with_other_stems_and_no_files(mxm):
    train, test = mxm(HEAD + "TRA,1,2:1\n"), mxm("%the,danc\nTRB,1,2:1\n", "test.txt")
    with pytest.raises(LyricError, match="its stems are not those of the first file"):
        read_counts({"train": train, "test": test})
    with pytest.raises(LyricError, match="no musiXmatch file"):
        read_counts({})
    with pytest.raises(SourceError, match=r"millionsongdataset.com/musixmatch"):
        read_counts({"train": train.with_name("missing.txt")})


def test_a_cut_download_loses_its_last_row_and_nothing_else(mxm):
    whole = HEAD + "TRA,1,1:2\nTRB,1,2:3,4:15\n"
    for length in range(len(HEAD + "TRA,1,1:2\n") + 1, len(whole)):
        lyrics, aside = read_counts({"train": mxm(whole[:length])})
        assert lyrics.counts.toarray().tolist() == [[2, 0, 0, 0]]
        assert aside[["line", "reason"]].to_numpy().tolist() == [[4, "cut off"]]
    assert read_whole({"train": mxm(whole)}).counts.sum() == 20


def test_a_file_without_rows_is_refused(mxm):
    with pytest.raises(LyricError, match="no row in 2 lines"):
        read_counts({"train": mxm(HEAD)})


# The reverse mapping


def test_the_reverse_mapping(mxm):
    mapping, aside = read_reverse_mapping(mxm("día<SEP>día\nhatr<SEP>hatred\n"))
    assert mapping == {"día": "día", "hatr": "hatred"} and aside.empty
    text = "hatr<SEP>hatred\nlov,love\na<SEP>b\na<SEP>c\ncar<SEP>car\nday<SEP>days\nday<SEP>days\n"
    mapping, aside = read_reverse_mapping(mxm(text + "b<SEP>b\nc<SEP>c\nlov<SEP>lo"))
    assert mapping == {"hatr": "hatred", "car": "car", "day": "days", "b": "b", "c": "c"}
    assert dict(zip(aside["line"], aside["reason"], strict=True)) == {
        2: "too few fields", 3: "conflicting", 4: "conflicting", 7: "repeated", 10: "cut off"
    }  # fmt: skip
    with pytest.raises(LyricError, match=r"2 of 2 rows cannot be used.*stem<SEP>word"):
        read_reverse_mapping(mxm("a,b\nlov,love\n"))


# Word vectors


@pytest.fixture(scope="module")
def glove():
    return load_vectors()


def test_the_packaged_vectors_are_whole_keyed_vectors(glove):
    assert isinstance(glove, KeyedVectors)
    assert glove.vectors.shape == (400_000, 50) and glove.vectors.dtype == np.float32
    assert len(glove) == len(glove.key_to_index) == 400_000
    assert glove.index_to_key[glove.key_to_index["night"]] == "night"
    # The first numbers of GloVe 6B 50-d as its authors publish it.
    assert np.allclose(glove["the"][:3], [0.418, 0.24968, -0.41242])
    assert glove.similarity("king", "queen") > glove.similarity("king", "cabbage")
    assert "cats" in [word for word, _ in glove.most_similar("cat", topn=20)]


@pytest.fixture
def small():
    vectors = KeyedVectors(3)
    rows = np.array([[0.5, -1, 2], [1, 2, 3], [0, 0.25, -4]], dtype=np.float32)
    vectors.add_vectors(["night", "dance", "día"], rows)
    return vectors


@pytest.mark.parametrize("kind", ["word2vec.bin", "word2vec.txt", "glove.txt", "glove.txt.gz"])
def test_files_of_any_format(tmp_path, small, kind):
    path = tmp_path / kind
    text = "".join(
        f"{word} {' '.join(map(str, small[word].tolist()))}\n" for word in small.index_to_key
    )
    match kind:
        case "glove.txt":
            path.write_text(text, encoding="utf-8")
        case "glove.txt.gz":
            path.write_bytes(gzip.compress(text.encode("utf-8")))
        case _:
            small.save_word2vec_format(path, binary=kind.endswith("bin"))
    loaded = load_vectors(path)
    assert loaded.index_to_key == small.index_to_key
    assert np.array_equal(loaded.vectors, small.vectors)
    assert np.array_equal(load_vectors(str(path))["día"], small["día"])


def test_a_relative_path_counts_from_the_project_and_not_from_a_chapters_folder(
    small, tmp_path, monkeypatch
):
    (tmp_path / "settings.ini").touch()
    (tmp_path / "nbs" / "report").mkdir(parents=True)
    small.save_word2vec_format(str(tmp_path / "mine.txt"))
    monkeypatch.chdir(tmp_path / "nbs" / "report")
    assert load_vectors("mine.txt").vector_size == small.vector_size


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"<html>404</html>\n", b"the danc\n", b"2 3\nnight 0.5\n", b"\x80\xff\n"],
)
def test_a_file_that_holds_no_vectors(tmp_path, content):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(LyricError, match=r"vectors.txt: (no|damaged) word vectors"):
        load_vectors(path)


def test_a_binary_file_that_was_cut_off(tmp_path, small):
    path = tmp_path / "vectors.bin"
    small.save_word2vec_format(path, binary=True)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(LyricError, match="damaged word vectors"):
        load_vectors(path)


def test_a_path_that_is_not_there(tmp_path):
    for path in (tmp_path / "vectors.bin", "no/such/vectors", "missing.txt"):
        with pytest.raises(LyricError, match=r"no word vectors at .*Accepted: `glove-6b-50d`"):
            load_vectors(path)


def test_a_name_without_the_network_and_one_that_is_unknown(monkeypatch):
    def offline(*args, **options):
        raise ValueError("unable to read local cache")

    monkeypatch.setattr(downloader, "info", offline)
    with pytest.raises(LyricError, match=r"cannot be reached .*Accepted: `glove-6b-50d`"):
        load_vectors("word2vec-google-news-300")
    monkeypatch.setattr(downloader, "info", lambda: {"models": {"glove-wiki-gigaword-50": {}}})
    with pytest.raises(LyricError, match=r"unknown word vectors 'glove'.*glove-wiki-gigaword-50"):
        load_vectors("glove")


def test_a_name_that_gensim_knows_is_loaded_by_it(monkeypatch, small):
    monkeypatch.setattr(downloader, "info", lambda: {"models": {"tiny-vectors-3": {}}})
    monkeypatch.setattr(downloader, "load", {"tiny-vectors-3": small}.__getitem__)
    assert load_vectors("tiny-vectors-3") is small


def test_a_stem_comes_before_its_word_and_a_missing_one_is_zero(small):
    matrix, found = stem_vectors(
        ["danc", "night", "día", "zzyx", "alone"],
        {"danc": "dance", "night": "dance", "día": "night", "zzyx": "zzyx"},
        small,
    )
    assert found.tolist() == ["reverse", "stem", "stem", "", ""]
    expected = [small["dance"], small["night"], small["día"], np.zeros(3), np.zeros(3)]
    assert matrix.dtype == np.float32 and np.array_equal(matrix, expected)


def test_real_stems_have_the_vectors_that_a_plain_look_up_finds(real_msd, glove):
    folder = real_msd / "musixmatch"
    lyrics, _ = read_counts({"train": folder / "mxm_dataset_train.txt"})
    mapping, aside = read_reverse_mapping(folder / "mxm_reverse_mapping.txt")
    assert aside.empty
    assert set(mapping) == set(lyrics.stems) and mapping["hatr"] == "hatred"
    matrix, found = stem_vectors(lyrics.stems, mapping, glove)
    as_they_stand = np.array([stem in glove for stem in lyrics.stems])
    by_word = np.array([mapping[stem] in glove for stem in lyrics.stems])
    assert ((found == "stem") == as_they_stand).all()
    assert ((found == "reverse") == (by_word & ~as_they_stand)).all()
    assert ((found == "") == ~matrix.any(axis=1)).all()
    row = lyrics.stems.index("hatr")
    assert found[row] == "reverse" and np.array_equal(matrix[row], glove["hatred"])


# A song's vector


def test_weights_by_the_formulas(counts):
    dense = counts.toarray().astype(float)
    total = dense.sum(axis=1, keepdims=True)
    inverse = np.divide(1, dense, out=np.zeros_like(dense), where=dense > 0)
    expected = {
        "fraction": np.divide(dense, total, out=np.zeros_like(dense), where=total > 0),
        "count": dense,
        "inverse": inverse / inverse.sum(axis=1, keepdims=True),
    }
    for name, weights in expected.items():
        assert np.allclose(_word_weights(counts, name).toarray(), weights, rtol=1e-14)


def test_tfidf_is_that_of_scikit_learn(counts):
    train = counts[:20]
    other = TfidfTransformer(norm="l1", smooth_idf=True).fit(train)
    assert np.allclose(fit_idf(train), other.idf_, rtol=1e-14)
    weights = _word_weights(counts, "tfidf", fit_idf(train))
    assert np.allclose(weights.toarray(), other.transform(counts).toarray(), rtol=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_vector_is_the_weighted_sum_of_its_words(counts, weighting):
    matrix = np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)
    idf = fit_idf(counts)
    vectors = lyric_vectors(counts, matrix, weighting, idf)
    assert vectors.shape == (30, 5) and vectors.dtype == np.float32
    weights = _word_weights(counts, weighting, idf).toarray()
    slow = [sum(w * v for w, v in zip(row, matrix, strict=True)) for row in weights]
    assert np.allclose(vectors, slow, atol=1e-5)


def test_songs_without_words_and_stored_zeros(counts):
    matrix = np.ones((12, 2), dtype=np.float32)
    empty = sparse.csr_array((3, 12), dtype=np.int32)
    stored_zero = sparse.csr_array(
        (np.array([0, 2]), np.array([1, 4]), np.array([0, 2])), shape=(1, 12)
    )
    for weighting in WEIGHTINGS:
        assert not lyric_vectors(empty, matrix, weighting, fit_idf(counts)).any()
        assert np.isfinite(lyric_vectors(stored_zero, matrix, weighting, fit_idf(counts))).all()
    assert np.array_equal(lyric_vectors(stored_zero, matrix, "inverse"), [[1, 1]])
    assert fit_idf(stored_zero)[1] == fit_idf(stored_zero)[0]


def test_the_counts_are_left_as_they_were(counts):
    before = counts.copy()
    for weighting in WEIGHTINGS:
        _word_weights(counts, weighting, fit_idf(counts))
    assert (counts != before).nnz == 0 and counts.dtype == before.dtype


def test_weightings_and_shapes_that_do_not_fit(counts):
    with pytest.raises(LyricError, match="'mean', expected fraction, count, inverse, tfidf"):
        _word_weights(counts, "mean")
    with pytest.raises(LyricError, match="needs `idf=fit_idf"):
        _word_weights(counts, "tfidf")
    with pytest.raises(LyricError, match="counts of 12 stems, but vectors of 7"):
        lyric_vectors(counts, np.zeros((7, 3)))


def test_coverage_counts_words_and_tokens():
    counts = sparse.csr_array([[4, 0, 1], [0, 5, 0]])
    table = coverage(counts, np.array(["stem", "", "stem"]))
    assert table["found"].tolist() == ["stem", "reverse", ""]
    assert table["words"].tolist() == [2, 0, 1] and table["tokens"].tolist() == [5, 0, 5]
    assert table["token_share"].tolist() == [0.5, 0, 0.5]


# The language of a song

VERSES = {
    "en": "i know that you will never be the one who takes my heart away",
    "es": "yo sé que nunca serás quien me robe el corazón cuando estoy contigo",
    "de": "ich weiß dass du nie mehr bei mir sein wirst wenn die nacht kommt",
    "fr": "je sais que tu ne seras jamais là quand mon cœur est dans la nuit",
    "it": "so che tu non sarai mai con me quando il mio cuore è nella notte",
    "pt": "eu sei que você não vai mais ficar comigo quando a noite chegar",
    "nl": "ik weet dat je nooit meer bij mij zult zijn als de nacht komt",
    "sv": "jag vet att du aldrig kommer att vara hos mig när natten är här",
}


def bags(verses):
    "Counts of words, and the words."
    words = sorted({word for verse in verses for word in verse.split()})
    rows = [[verse.split().count(word) for word in words] for verse in verses]
    return sparse.csr_array(np.array(rows, dtype=np.int32)), words


def test_languages_of_verses():
    counts, words = bags(VERSES.values())
    assert _guess_languages(counts, words).tolist() == list(VERSES)
    assert _guess_languages(counts * 7, words).tolist() == list(VERSES), "how often says nothing"
    assert _guess_languages(counts[::-1], words).tolist() == list(VERSES)[::-1]


def test_no_guess_from_few_words_or_none():
    counts, words = bags(["the night is young", "la la la", VERSES["en"]])
    assert _guess_languages(counts, words).tolist() == ["", "", "en"]
    assert _guess_languages(counts, words, least_words=4).tolist() == ["en", "", "en"]
    empty = sparse.csr_array((2, len(words)), dtype=np.int32)
    assert _guess_languages(empty, words, least_words=0).tolist() == ["", ""]
    assert _guess_languages(empty[:0], words).tolist() == []


def test_stored_zeros_are_no_words_and_the_counts_are_left_as_they_were():
    counts, words = bags([VERSES["en"], VERSES["de"]])
    zeros = counts.copy()
    zeros.data[: zeros.indptr[1]] = 0
    before = zeros.copy()
    assert _guess_languages(zeros, words).tolist() == ["", "de"]
    assert np.array_equal(zeros.data, before.data)
    assert np.array_equal(zeros.indptr, before.indptr)


def test_counts_and_words_that_do_not_fit():
    counts, words = bags(VERSES.values())
    with pytest.raises(LyricError, match=f"counts of {len(words)} stems, but {len(words) - 1} wor"):
        _guess_languages(counts, words[1:])


COMMON = {  # words that one of these languages alone has, of its most frequent ones
    "en": "the you and my it is that of for be are this with have your",
    "es": "el los las una del como pero está más yo muy mi",
    "de": "ich und nicht der das ist ein mich du auf wenn",
    "fr": "les des je est pas dans pour une tout qui mais",
    "it": "che di il non sono della più perché mia io",
    "pt": "não você uma meu eu mais pra quando minha",
}


def test_languages_of_real_songs_are_those_of_their_common_words(real_msd):
    "A song has the language of which most common words are in it, where that is clear."
    folder = real_msd / "musixmatch"
    paths = {part: folder / f"mxm_dataset_{part}.txt" for part in ("train", "test")}
    lyrics, _ = read_counts(paths)
    mapping, _ = read_reverse_mapping(folder / "mxm_reverse_mapping.txt")
    words = [mapping.get(stem, stem) for stem in lyrics.stems]
    there = sparse.csr_array(lyrics.counts > 0, dtype=float)
    found = np.stack([there @ np.isin(words, common.split()) / len(common.split())
                      for common in COMMON.values()], axis=1)  # fmt: skip
    first, second = -np.sort(-found, axis=1)[:, :2].T
    clear = (first > 0.3) & (first > 2 * second)
    expected = np.array(list(COMMON))[found.argmax(axis=1)]
    guessed = _guess_languages(lyrics.counts, words)
    for language in COMMON:
        chosen = clear & (expected == language)
        assert chosen.sum() > 50 and (guessed[chosen] == language).mean() > 0.98
