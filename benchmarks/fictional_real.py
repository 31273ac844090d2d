"""Fictional songs against real ones: can they be told apart, do models score alike on both?

The parameters are estimated for each of five folds from the other folds' artists. Boosted trees
learn to tell a fold's fictional songs from the real songs of the other folds, and are judged on the
fold's own: an AUC of 0.5 means that they cannot, 1 that it is easy. Then the same logistic
regressions are scored on both corpora, artist-disjoint, from sound, words, and both. Beside that,
distributions over songs as quantiles, and how alike segments are by the distance between them.
Nothing that is kept is a song's own value: quantiles are smoothed, curves are means over songs.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats.mstats import hdquantiles
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msd_genre.corpus.scan import _summarize, _summary_names
from msd_genre.datasets.musixmatch import read_counts
from msd_genre.files.layout import find_layout
from msd_genre.files.song_file import read_song
from msd_genre.files.song_schema import Segments
from msd_genre.files.song_sources import _find_songs
from msd_genre.synthetic.estimate import LEVELS, Fitted, _read_songs, fit_demo
from msd_genre.synthetic.plan import PARAMETERS
from msd_genre.synthetic.write import _like_songs, write_demo
from msd_genre.workspace.paths import project_root
from msd_genre.workspace.runs import _write_json

FACTS = ("duration_s", "tempo_bpm", "key", "mode", "loudness_db", "year", "artist_familiarity",
         "n_segments")
LAGS = (1, 2, 4, 8, 16, 32, 64, 128)  # segments
N_STEMS = 200  # the most frequent, whose pairs are counted


def chroma_entropy(
    chroma: np.ndarray,  # (n, 12) strengths of pitches, each row's maximum 1
) -> float:  # bits, at most log2(12)
    "Shannon entropy of the pitches' shares of a segment, averaged over segments."
    share = chroma / chroma.sum(1, keepdims=True)
    return float(-(share * np.log2(np.where(share > 0, share, 1))).sum(1).mean())


def self_similarity(
    rows: np.ndarray,  # (n, 12) of the segments of a song
) -> list[float]:  # of each of `LAGS`, NaN where the song has not twice as many segments
    "Correlation of a coefficient with itself some segments later, averaged over coefficients."
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    return [float((rows[lag:] * rows[:-lag]).mean()) if len(rows) > 2 * lag else np.nan
            for lag in LAGS]


def co_occurrence(
    counts: sparse.csr_array,  # (n, n_stems) how often songs hold stems
) -> np.ndarray:  # (n_pairs,) nats
    "Pointwise mutual information, by song, of the pairs of the most frequent stems."
    held = sparse.csc_array((counts > 0).astype(float))
    held = held[:, np.argsort(-held.sum(0), kind="stable")[:N_STEMS]].toarray()
    share, both = held.mean(0), (held.T @ held + 0.5) / (len(held) + 1)
    pairs = np.log(both / np.outer(share, share))
    return pairs[np.triu_indices(len(pairs), 1)]


def alikeness(segments: Segments) -> list[list[float]]:
    "`self_similarity` of chroma and of timbre."
    return [self_similarity(rows) for rows in (segments.chroma, segments.timbre)]


def read_corpus(folder: Path) -> dict:
    "Features, labels, artists and word counts of every song that has a label."
    layout, rows, summary, moves, alike = find_layout(folder), [], [], [], []
    for path in _find_songs(layout.songs):
        song = read_song(path)
        rows.append({"track_id": path.stem, "artist": song.metadata["artist_id"]}
                    | {name: song.metadata[name] for name in FACTS}
                    | {"chroma entropy": chroma_entropy(song.segments.chroma)})
        alike.append(alikeness(song.segments))
        summary.append(_summarize(song.segments, song.metadata["key"]))
        move = np.diff(song.segments.chroma.argmax(1)) % 12
        moves.append(np.isin(move, (1, 11)).mean() / 2)
    table = pd.DataFrame(rows).astype({"year": float})
    table["step"] = np.array(summary)[:, _summary_names().index("timbre step 1")]
    table["semitone"] = moves
    counts, _ = read_counts(layout.lyrics)
    at = pd.Series(np.arange(len(counts.track_ids)), counts.track_ids).reindex(table["track_id"])
    return {"table": table, "summary": np.array(summary), "counts": counts.counts,
            "at": at.to_numpy(), "alike": np.nanmean(alike, axis=0)}


def tell_apart(real: dict, made: list[dict], artists: list[np.ndarray]) -> list[float]:
    "AUC in each fold: `made[k]` was drawn from parameters of other artists than `artists[k]`."
    def features(corpus: dict) -> np.ndarray:
        return np.hstack([corpus["summary"], corpus["table"][list(FACTS)].astype(float)])

    scores = []
    for fold, (corpus, own) in enumerate(zip(made, artists, strict=True)):
        tested = real["table"]["artist"].isin(own).to_numpy()
        groups = corpus["table"]["artist"]
        learn, judge = list(GroupKFold(5).split(groups, groups=groups))[fold]
        x, y = features(real), features(corpus)
        trees = HistGradientBoostingClassifier(random_state=0)
        trees.fit(np.vstack([x[~tested], y[learn]]),
                  np.repeat([1, 0], [(~tested).sum(), len(learn)]))
        p = trees.predict_proba(np.vstack([x[tested], y[judge]]))[:, 1]
        scores.append(float(roc_auc_score(np.repeat([1, 0], [tested.sum(), len(judge)]), p)))
    return scores


def genre_scores(corpus: dict, labels: pd.Series, repeats: int = 3) -> dict[str, float]:
    "Macro-F1 of logistic regressions on songs with a label and lyrics, five folds by artist."
    table = corpus["table"]
    genre = table["track_id"].map(labels)
    used = np.flatnonzero(genre.notna() & ~np.isnan(corpus["at"]))
    genre, artist = genre.to_numpy(dtype=str)[used], table["artist"].to_numpy()[used]
    words = corpus["counts"][corpus["at"][used].astype(int)]
    sound, found = corpus["summary"][used], {"sound": [], "words": [], "both": []}
    several = np.isin(genre, [g for g in np.unique(genre) if len(set(artist[genre == g])) >= 5])
    for seed in range(repeats):
        answers = {name: np.array(genre) for name in found}
        for learn, judge in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(
            sound, genre, artist
        ):
            by_sound = make_pipeline(StandardScaler(), LogisticRegression(
                C=0.003, max_iter=300, class_weight="balanced"))
            by_sound.fit(sound[learn], genre[learn])
            idf = TfidfTransformer(sublinear_tf=True).fit(words[learn])
            by_words = LogisticRegression(C=1.0, max_iter=300, class_weight="balanced")
            by_words.fit(idf.transform(words[learn]), genre[learn])
            shares = {"sound": by_sound.predict_proba(sound[judge]),
                      "words": by_words.predict_proba(idf.transform(words[judge]))}
            shares["both"] = shares["sound"] * shares["words"]
            for name, share in shares.items():
                answers[name][judge] = by_sound.classes_[share.argmax(1)]
        for name, answer in answers.items():
            found[name].append(f1_score(genre[several], answer[several], average="macro",
                                        labels=np.unique(genre[several])))
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()} | {
        "songs": len(genre), "genres": len(np.unique(genre[several]))}


def distributions(corpus: dict) -> dict:
    "Quantiles at `LEVELS` over songs and over pairs of stems, and means over songs by `LAGS`."
    at, table = corpus["at"][~np.isnan(corpus["at"])].astype(int), corpus["table"]
    counts = corpus["counts"][at]
    values = {
        "segments": table["n_segments"], "duration (s)": table["duration_s"],
        "chroma entropy (bits)": table["chroma entropy"],
        "words": counts.sum(1), "distinct words": np.diff(counts.indptr),
    }
    quantiles = {name: hdquantiles(np.asarray(some, float), LEVELS).round(3).tolist()
                 for name, some in values.items()}
    pairs = np.quantile(co_occurrence(counts), LEVELS).round(4).tolist()
    chroma, timbre = corpus["alike"].round(4).tolist()
    return {"quantiles": quantiles, "co_occurrence": pairs,
            "self_similarity": {"chroma": chroma, "timbre": timbre}}


def describe(corpus: dict) -> dict[str, float]:
    "How songs move and how many words they have."
    at = corpus["at"][~np.isnan(corpus["at"])].astype(int)
    counts, table = corpus["counts"][at], corpus["table"]
    by_rank = np.sort(np.asarray(counts.sum(0)).ravel())[::-1][9:500] + 1.0
    return {
        "median_segments": float(table["n_segments"].median()),
        "median_duration_s": round(float(table["duration_s"].median()), 1),
        "step_of_timbre_1": round(float(table["step"].mean()), 2),
        "semitone_moves_each_way": round(float(table["semitone"].mean()), 3),
        "distinct_words": round(float(np.diff(counts.indptr).mean()), 1),
        "words": round(float(counts.sum(1).mean()), 1),
        "zipf_slope_ranks_10_to_500": round(float(np.polyfit(
            np.log(np.arange(10, 10 + len(by_rank))), np.log(by_rank), 1)[0]), 2),
    }


def labels_of(folder: Path) -> pd.Series:
    "The label file of a fictional corpus."
    lines = (folder / "tagtraum/msd_tagtraum_demo_cd2.cls").read_text().splitlines()
    pairs = [line.split("\t")[:2] for line in lines if not line.startswith("#")]
    return pd.Series(dict(pairs))


def main(data: Path, seeds: int, folds: int) -> dict:
    "All comparisons."
    real, table = read_corpus(data), _read_songs(data).table
    size, p = _like_songs(data)
    found = {"levels": LEVELS.round(3).tolist(), "lags": list(LAGS), "n_stems": N_STEMS,
             "real": describe(real) | distributions(real) | {"macro_f1": genre_scores(
                 real, table.set_index("track_id")["genre"].dropna())}, "fictional": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, seeds + 1):
            made = write_demo(Path(folder) / f"{seed}", size, seed, parameters=p)
            corpus = read_corpus(made)
            found["fictional"].append(describe(corpus) | distributions(corpus) | {
                "seed": seed, "macro_f1": genre_scores(corpus, labels_of(made))})
        made, artists = [], []
        split = GroupKFold(5).split(table, groups=table["artist_id"])
        for fold, (_, judged) in list(enumerate(split))[:folds]:
            artists.append(table["artist_id"].to_numpy()[judged])
            fit = Fitted(fit_demo(data, list(set(artists[-1]))))
            made.append(read_corpus(write_demo(
                Path(folder) / f"fold {fold}", size, 100 + fold, parameters=replace(p, fit=fit))))
        if folds:
            auc = tell_apart(real, made, artists)
            found["auc"] = {"mean": round(float(np.mean(auc)), 3),
                            "folds": np.round(auc, 3).tolist()}
    found["parameters"] = {name: getattr(PARAMETERS, name) for name in (
        "separation", "artist_share", "muddle", "stray", "word_strength", "artist_words",
        "song_words", "theme_noise")}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="real songs, laid out like the MSD subset")
    parser.add_argument("--seeds", type=int, default=3, help="fictional corpora to score")
    parser.add_argument("--folds", type=int, default=5, help="of the classifier that tells apart")
    parser.add_argument("--out", type=Path,
                        default=project_root() / "results" / "fictional_real.json")
    asked = parser.parse_args()
    record = main(asked.data, asked.seeds, asked.folds)
    _write_json(record, asked.out)
    print(asked.out.read_text())
