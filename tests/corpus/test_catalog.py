"""The join: what is dropped and why, choices that do not exist, and the real songs."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from msd_genre.corpus import catalog
from msd_genre.datasets import labels
from msd_genre.files.layout import find_layout
from msd_genre.workspace import runs
from msd_genre.workspace.paths import SourceError


def make_run(folder, data, **options):
    params = {"seed": 1, "data": {"folder": str(data)}, "catalog": options}
    return runs.create_run(params, folder / "run")


@pytest.fixture(scope="module")
def joined(demo_corpus, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("catalog"), demo_corpus)
    return run, catalog.build_catalog(run)


def test_the_catalog_has_a_row_a_track_in_order_with_the_columns_of_the_design(joined):
    table = joined[1]
    assert list(table.columns) == catalog._COLUMNS
    assert table["track_id"].is_monotonic_increasing and table["track_id"].is_unique
    kinds = table.dtypes.astype(str)[["year", "key", "mode", "n_segments", "plays"]]
    assert kinds.tolist() == ["Int64", "int64", "int64", "int64", "Int64"]
    assert table["path"].map(lambda path: path.startswith("data/")).all()


def test_every_step_of_the_join_loses_something_on_the_demo_and_the_counts_add_up(joined):
    run, table = joined
    aside = run.read("songs/rejected.parquet")
    steps = catalog.funnel(table, unreadable=len(aside))
    lost = steps.set_index("step")["lost"]
    must = ["readable", "song matches track", "labelled", "long enough", "with lyrics"]
    assert (lost[must] > 0).all()
    assert steps["kept"].iloc[0] == len(table) + len(aside)
    assert steps["kept"].iloc[-1] == len(catalog.kept(table)) == steps["kept"].iloc[0] - lost.sum()


def test_what_is_kept_passed_every_step(joined):
    kept = catalog.kept(joined[1])
    assert kept["genre"].notna().all() and kept["has_lyrics"].all()
    assert (kept["n_segments"] > 300).all()
    assert set(kept["genre_source"]) == {"fictional labels in the layout of tagtraum CD2"}


def test_broken_songs_are_set_aside_with_their_reason_and_no_row(demo_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(demo_corpus, corpus)
    songs = sorted(corpus.glob("data/**/*.h5"))
    broken = {
        songs[5]: b"",
        songs[6]: b"no HDF5 at all",
        songs[7]: songs[7].read_bytes()[:5_000],
    }
    for path, content in broken.items():
        path.write_bytes(content)
    other = songs[0].with_name("TRZZZZZ128F0000000.h5")
    shutil.copy(songs[0], other)
    (corpus / "data" / "twice").mkdir()
    shutil.copy(songs[1], corpus / "data" / "twice" / songs[1].name)
    run = make_run(tmp_path, corpus)
    table = catalog.build_catalog(run)
    aside = run.read("songs/rejected.parquet").set_index("path")["reason"]
    for path in [*broken, other]:
        assert aside[path.relative_to(corpus).as_posix()]
        assert path.stem not in set(table["track_id"])
    assert "the name says" in aside[other.relative_to(corpus).as_posix()]
    assert list(aside).count("the same track as another file") == 1
    assert len(table) + len(aside) == len(songs) + 2


def test_choices_change_what_is_kept(demo_corpus, tmp_path):
    counts = {}
    for name, options in {
        "default": {}, "weak": {"labels": "artist_terms"}, "no minority": {"minority": "drop"},
        "short too": {"min_segments": 0}, "most played": {"n_most_played": 20},
        "all": {"drop_mismatches": False, "lyrics": None, "min_segments": 0},
    }.items():  # fmt: skip
        table = catalog.build_catalog(make_run(tmp_path, demo_corpus, **options))
        counts[name] = len(catalog.kept(table))
        if name == "weak":
            assert set(catalog.kept(table)["genre_source"]) == {"artist_terms"}
        if name == "most played":
            played = table[table["plays"].notna()].drop_duplicates("song_id")
            assert len(set(catalog.kept(table)["song_id"])) <= 20 < len(played)
    assert counts["weak"] > counts["default"] > counts["no minority"] > 0
    assert counts["all"] > counts["short too"] > counts["default"] > counts["most played"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"label": "tagtraum"}, "no catalog option 'label'; there is labels"),
        ({"labels": "lastfm"}, "labels is 'lastfm', not one of tagtraum, artist_terms"),
        ({"label_file": "cd9"}, "no label file 'cd9'"),
    ],
)
def test_a_choice_that_does_not_exist_names_those_that_do(demo_corpus, tmp_path, options, message):
    with pytest.raises(catalog.CatalogError, match=message):
        catalog.build_catalog(make_run(tmp_path, demo_corpus, **options))


def test_a_missing_file_says_where_it_was_looked_for_and_where_it_is_to_be_had(
    demo_corpus, tmp_path
):
    corpus = tmp_path / "corpus"
    shutil.copytree(demo_corpus, corpus)
    shutil.rmtree(corpus / "musixmatch")
    with pytest.raises(SourceError, match=r"mxm_dataset_train\.txt.*get it from http"):
        catalog.build_catalog(make_run(tmp_path, corpus))
    with pytest.raises(SourceError, match="names no folder of songs"):
        catalog.data_layout(runs.create_run({"seed": 1}, tmp_path / "empty"))
    with pytest.raises(SourceError, match="no folder"):
        find_layout(tmp_path / "nowhere")


def test_several_label_files_have_to_be_chosen_from(demo_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(demo_corpus, corpus)
    one = next(corpus.glob("tagtraum/*.cls"))
    shutil.copy(one, one.with_name("other.cls"))
    with pytest.raises(catalog.CatalogError, match="several label files"):
        catalog.build_catalog(make_run(tmp_path, corpus))
    chosen = make_run(tmp_path, corpus, label_file="other")
    assert len(catalog.kept(catalog.build_catalog(chosen)))


@pytest.mark.parametrize(
    "file, source",
    [
        ("msd_tagtraum_cd1.cls", "tagtraum CD1"),
        ("msd_tagtraum_cd2c.cls", "tagtraum CD2C"),
        ("msd-MAGD-genreAssignment.cls", "MAGD"),
        ("msd-topMAGD-genreAssignment.cls", "top-MAGD"),
        ("msd-MASD-styleAssignment.cls", "MASD"),
        ("my.genres.cls", "my.genres"),
    ],
)
def test_labels_are_reported_with_the_source_that_their_file_has(
    demo_corpus, tmp_path, file, source
):
    "The option `labels: tagtraum` means a .cls file: whose labels these are, the file decides."
    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    one = next(corpus.glob("tagtraum/*.cls"))
    run = make_run(tmp_path, corpus, labels="tagtraum")
    catalog.build_catalog(run)
    one.rename(one.with_name(file))
    table = catalog.build_catalog(run)
    assert set(table["genre_source"].dropna()) == {source}
    labels = {"source": source, "file": file}
    assert run.stamp["labels"] == labels == make_run(tmp_path, corpus).stamp["labels"]
    assert run.sidecars()["catalog.parquet"]["stamp"]["labels"] == labels
    weak = make_run(tmp_path, corpus, labels="artist_terms")
    catalog.build_catalog(weak)
    assert weak.stamp["labels"] == {"source": "artist_terms", "file": None}


def test_the_join_is_made_again_only_when_something_changed(joined):
    run, _ = joined
    made = {p.name: p.stat().st_mtime_ns for p in (run.dir / ".keys").iterdir()}
    catalog.build_catalog(run)
    assert made == {p.name: p.stat().st_mtime_ns for p in (run.dir / ".keys").iterdir()}


def test_the_real_songs(real_msd, tmp_path):
    table = catalog.build_catalog(make_run(tmp_path, real_msd, drop_mismatches=False))
    files = list((real_msd / "data").rglob("TR*.h5"))
    assert len(table) == len(files)
    labels = pd.read_csv(next(real_msd.glob("tagtraum/*.cls")), sep="\t", comment="#",
                         names=["track_id", "genre", "minority"])  # fmt: skip
    mine = table.set_index("track_id")["genre"].dropna()
    theirs = labels.set_index("track_id")["genre"].reindex(table["track_id"]).dropna()
    assert mine.to_dict() == theirs.to_dict()
    assert table["plays"].notna().sum() > 0
    assert not runs.open_run(tmp_path / "run").stamp["fictional"]


def test_a_label_set_is_declared_by_one_entry(demo_corpus, tmp_path):
    """Its file is chosen among several, its genres are known, its title is recorded."""
    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    (theirs,) = (corpus / "tagtraum").glob("*.cls")
    rows = theirs.read_text().replace("\tRock", "\tPolka")
    (corpus / "tagtraum" / "Own_Labels.cls").write_text(rows)
    labels.LABELS.add(labels.LabelSet("own", "My labels", "own_labels", ("Polka",), "", ""))
    try:
        run = make_run(tmp_path, corpus, labels="own", min_segments=0, lyrics=None)
        kept = catalog.kept(catalog.build_catalog(run))
    finally:
        del labels.LABELS._entries["own"]
    assert set(kept["genre_source"]) == {"My labels"} and "Polka" in set(kept["genre"])
    assert run.stamp["labels"] == {"source": "My labels", "file": "Own_Labels.cls"}


@pytest.mark.parametrize("others", [True, False])
def test_a_label_set_whose_file_is_missing_is_named_with_its_page(demo_corpus, tmp_path, others):
    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    if not others:
        next(corpus.glob("tagtraum/*.cls")).unlink()
    run = make_run(tmp_path, corpus, labels="magd")
    said = "no label file 'msd-magd-genreassignment'.*MAGD is offered at http://www.ifs.tuwien.ac.at"
    with pytest.raises(catalog.CatalogError, match=said):
        catalog.build_catalog(run)


def test_the_citation_of_a_label_set_is_in_the_references():
    known = set(re.findall(r"@\w+\{(\w+),", Path("nbs/references.bib").read_text()))
    assert {one.citation for one in labels.LABELS.untraced()} <= known
