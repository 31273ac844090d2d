"""Scores against scikit-learn and stored values, the bootstrap against scikit-learn's weights."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from msd_genre import metrics
from msd_genre.metrics import MetricError

DATA = Path(__file__).parent / "data"
CLASSES = ["Rock", "Pop", "Jazz", "Folk", "Polka", "Opera"]  # no song is Opera


@pytest.fixture
def stored():
    "90 invented songs by 29 artists, with probabilities rounded so that many are equal."
    return pd.read_csv(DATA / "predictions.csv")


@pytest.fixture
def predictions(stored):
    return stored.drop(columns="artist_id")


@pytest.fixture
def artists(stored):
    return stored.set_index("track_id").artist_id


def reference_scores(predictions, weights=None):
    "The six scores with scikit-learn, over the genres that have a song (or a weight)."
    truth = predictions.genre.map(CLASSES.index).to_numpy()
    probability = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    answer = probability.argmax(axis=1)
    weights = np.ones(len(truth)) if weights is None else weights
    present = np.unique(truth[weights > 0])
    is_genre = (truth[:, None] == np.arange(len(CLASSES))).astype(int)
    weighted = {"sample_weight": weights}
    macro = {"labels": present, "average": "macro", "zero_division": 0, **weighted}
    ap = reference.average_precision_score
    return {
        "accuracy": reference.accuracy_score(truth, answer, **weighted),
        "balanced_accuracy": reference.recall_score(truth, answer, **macro),
        "macro_f1": reference.f1_score(truth, answer, **macro),
        "micro_f1": reference.f1_score(truth, answer, average="micro", **weighted),
        "macro_ap": ap(is_genre[:, present], probability[:, present], average="macro", **weighted),
        "micro_ap": ap(is_genre, probability, average="micro", **weighted),
    }


def test_scores_equal_scikit_learn_and_the_stored_values(predictions):
    values = metrics.scores(predictions)
    stored = json.loads((DATA / "prediction_scores.json").read_text())["scores"]
    assert tuple(values) == metrics.SCORES
    assert values == pytest.approx(stored, abs=1e-12)
    assert values == pytest.approx(reference_scores(predictions), abs=1e-12)


def test_balanced_accuracy_is_that_of_scikit_learn(predictions):
    answers = predictions.filter(like="p_").idxmax(axis=1).str[2:]
    expected = reference.balanced_accuracy_score(predictions.genre, answers)
    assert metrics.scores(predictions)["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_per_class_equals_the_stored_values(predictions):
    table = metrics.per_class(predictions).set_index("genre")
    stored = json.loads((DATA / "prediction_scores.json").read_text())["by_genre"]
    for genre, values in stored.items():
        assert table.loc[genre, list(values)].to_dict() == pytest.approx(values, abs=1e-12)
    assert table.index.tolist() == CLASSES
    assert np.isnan(table.loc["Polka", "precision"]) and table.loc["Polka", "f1"] == 0
    assert table.loc["Opera", ["precision", "recall", "f1", "ap"]].isna().all()


def test_a_genre_without_a_song_is_left_out_but_answering_it_costs(predictions):
    right = predictions.index[predictions.filter(like="p_").idxmax(axis=1) == "p_Rock"][0]
    answered = predictions.copy()
    answered.loc[right, [f"p_{name}" for name in CLASSES]] = [0, 0, 0, 0, 0, 1]
    values = metrics.scores(answered)
    assert values == pytest.approx(reference_scores(answered), abs=1e-12)
    assert values["macro_f1"] < metrics.scores(predictions)["macro_f1"]
    opera = metrics.per_class(answered).set_index("genre").loc["Opera"]
    assert opera.precision == 0 and np.isnan(opera.f1) and opera.support == 0


def test_each_resample_equals_scikit_learn_with_sample_weight(predictions, artists):
    weights = metrics.artist_weights(predictions.track_id.map(artists), 40, seed=0)
    drawn = metrics.weighted_scores(predictions, weights)
    for i in range(weights.shape[1]):
        expected = reference_scores(predictions, weights[:, i].astype(float))
        assert drawn.loc[i, list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)
    assert set(drawn.genres) == {4, 5}  # some resamples lack a genre


def test_fractional_weights_equal_scikit_learn(predictions):
    weights = np.random.default_rng(0).random((len(predictions), 3)) * 0.2
    drawn = metrics.weighted_scores(predictions, weights)
    for i in range(3):
        expected = reference_scores(predictions, weights[:, i])
        assert drawn.loc[i, list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)


def test_a_weight_is_a_number_of_rows(predictions):
    copies = np.random.default_rng(1).integers(0, 4, len(predictions))
    repeated = predictions.loc[np.repeat(predictions.index, copies)].assign(part="validation")
    drawn = metrics.weighted_scores(predictions, copies[:, None]).loc[0, list(metrics.SCORES)]
    assert drawn.to_dict() == pytest.approx(metrics.scores(repeated), abs=1e-12)


def test_artists_are_drawn_whole_and_as_many_as_there_are(artists):
    weights = pd.DataFrame(metrics.artist_weights(artists, 50, seed=3), index=artists)
    by_artist = weights.groupby(level=0)
    assert (by_artist.nunique() == 1).all(axis=None)
    assert (by_artist.first().sum() == artists.nunique()).all()


def test_two_models_of_the_same_songs_get_the_same_resamples(predictions, artists):
    "Whatever the order of their rows: differences can then be paired."
    drawn = metrics.score_intervals(predictions, artists, n_boot=200, seed=5)
    shuffled = predictions.sample(frac=1, random_state=0)
    again = metrics.score_intervals(shuffled, artists.sample(frac=1, random_state=1), 200, seed=5)
    pd.testing.assert_frame_equal(drawn, again, rtol=0, atol=1e-12)
    other = metrics.score_intervals(predictions, artists, n_boot=200, seed=6)
    assert (drawn.low != other.low).any()


def test_intervals_hold_their_point_and_say_how_often_a_genre_was_missing(predictions, artists):
    table = metrics.score_intervals(predictions, artists, n_boot=500)
    assert table.score.tolist() == list(metrics.SCORES)
    assert (table.low <= table.value).all() and (table.value <= table.high).all()
    assert (table.songs == 90).all() and (table.artists == artists.nunique()).all()
    weights = metrics.artist_weights(predictions.track_id.map(artists), 500, seed=0)
    genres = pd.get_dummies(predictions.genre).T.to_numpy(int) @ weights.astype(int)
    assert table.incomplete.iloc[0] == pytest.approx((genres == 0).any(axis=0).mean())
    narrow = metrics.score_intervals(predictions, artists, n_boot=500, level=0.5)
    assert (narrow.high - narrow.low < table.high - table.low).all()


def test_the_interval_of_the_accuracy_is_as_wide_as_theory_says():
    "2,000 artists of one song each, right with probability 0.7: a binomial share."
    rng = np.random.default_rng(0)
    right = rng.random(2000) < 0.7
    truth = np.where(rng.random(2000) < 0.5, "A", "B")
    table = pd.DataFrame({"model": "m", "protocol": "p", "fold": 0, "seed": 0, "part": "test"}, [0])
    table = table.loc[np.zeros(2000, int)].reset_index(drop=True)
    table = table.assign(track_id=[f"T{i}" for i in range(2000)], genre=truth)
    table["p_A"] = np.where((truth == "A") == right, 0.9, 0.1)
    table["p_B"] = 1 - table.p_A
    row = metrics.score_intervals(table, pd.Series(range(2000), index=table.track_id)).iloc[0]
    expected = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 2000)
    assert row.high - row.low == pytest.approx(expected, rel=0.1)


def test_confusion_counts_every_song(predictions):
    table = metrics.confusion(predictions)
    assert table.index.tolist() == table.columns.tolist() == CLASSES
    assert np.trace(table) / 90 == pytest.approx(metrics.scores(predictions)["accuracy"])
    assert table.sum(axis=1).tolist() == metrics.per_class(predictions).support.tolist()
    assert table.loc["Polka"].sum() == 3 and table["Polka"].sum() == 0


def test_the_steps_of_a_curve_sum_to_its_average_precision(predictions):
    curves = metrics.pr_curves(predictions).groupby("genre")
    areas = {
        genre: -(np.diff(curve.recall) * curve.precision[:-1]).sum() for genre, curve in curves
    }
    table = metrics.per_class(predictions).dropna(subset="ap").set_index("genre")
    assert areas.pop("micro") == pytest.approx(metrics.scores(predictions)["micro_ap"], abs=1e-12)
    assert areas == pytest.approx(table.ap.to_dict(), abs=1e-12)


def test_majority_answers_one_genre_and_has_its_share_as_accuracy(predictions):
    train = pd.Series(["Pop", "Pop", "Rock", "Rock", "Jazz"])  # of equals, the first by alphabet
    answers = metrics.majority_predictions(train, predictions)
    assert set(answers.model) == {"majority"}
    values = metrics.scores(answers)
    assert values["accuracy"] == (predictions.genre == "Pop").mean()
    assert values["balanced_accuracy"] == pytest.approx(1 / 5)
    with pytest.raises(MetricError, match="Waltz"):
        metrics.majority_predictions(pd.Series(["Waltz"]), predictions)


def test_a_genre_without_an_output_must_be_named_and_counts_as_probability_0(predictions):
    unknown = predictions.assign(genre=predictions.genre.replace("Polka", "Waltz"))
    with pytest.raises(MetricError, match=r"3 of 90 songs have genres \['Waltz'\]"):
        metrics.scores(unknown)
    zeros = metrics.scores(unknown.assign(p_Waltz=0.0))
    assert metrics.scores(unknown, [*CLASSES, "Waltz"]) == zeros
    assert metrics.confusion(unknown, [*CLASSES, "Waltz"]).loc["Waltz", "Waltz"] == 0
    with pytest.raises(MetricError, match=r"outputs \['Opera'\] are not in classes"):
        metrics.scores(predictions, CLASSES[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="seed"), r"lacks \['seed'\]"),
        (lambda t: t[t.columns[:7]], "lacks columns p_"),
        (lambda t: t.head(0), "no rows"),
        (lambda t: t.assign(model=["a", "b"] * 45), r"mixes models \['a', 'b'\]"),
        (lambda t: t.assign(part=["validation", "test"] * 45), "mixes parts"),
        (lambda t: pd.concat([t, t.head(1).assign(seed=2)]), "tested twice"),
        (lambda t: t.assign(p_Rock=np.nan), "finite"),
        (lambda t: t.assign(p_Rock=t.p_Rock + 2), "finite"),
        (lambda t: t.assign(p_Rock=t.p_Rock / 2), "sum to 1"),
        (lambda t: t.assign(genre=t.genre.where(t.genre != "Folk")), "have genres"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(predictions, change, message):
    with pytest.raises(MetricError, match=message):
        metrics.scores(change(predictions))


def test_groups_that_cannot_be_drawn_are_refused(predictions, artists):
    with pytest.raises(MetricError, match="no artist for track TRGOLD089"):
        metrics.score_intervals(predictions, artists.iloc[:-1])
    with pytest.raises(MetricError, match="repeats tracks"):
        metrics.score_intervals(predictions, pd.concat([artists, artists]))
    with pytest.raises(MetricError, match="by one artist"):
        metrics.score_intervals(predictions, artists.where(artists.isna(), "A"))
    with pytest.raises(MetricError, match="one row a song"):
        metrics.weighted_scores(predictions, np.ones((3, 2)))


def test_models_are_compared_on_the_same_songs_only(predictions, artists):
    other = predictions.iloc[::-1].reset_index(drop=True)
    with pytest.raises(metrics.MetricError, match="the same songs in the same order"):
        metrics.score_models({"a": predictions, "b": other}, artists, predictions.genre, n_boot=5)


def test_the_table_of_models_has_the_constant_answer_and_is_sorted(predictions, artists):
    scored = metrics.score_models({"a": predictions}, artists, predictions.genre, n_boot=20)
    assert set(scored.model) == {"a", "majority"}
    genres = {*predictions.genre, *metrics._outputs(predictions)}
    alone = metrics.scores(predictions, sorted(genres))
    assert scored.query("model == 'a'").set_index("score").value.to_dict() == alone
    table = metrics.score_table(scored, sort_by="accuracy")
    best = scored.query("score == 'accuracy'").sort_values("value").model.iloc[-1]
    assert table.model.iloc[0] == best


def test_an_interval_of_few_songs_holds_its_own_value():
    """A genre of one artist is absent from a third of the resamples; it must not shift the mean."""
    truth = ["A"] * 12 + ["B"] * 2 + ["C"] * 2
    table = pd.DataFrame({
        "model": "m", "protocol": "p", "fold": 0, "seed": 1, "part": "test",
        "track_id": [f"TR{i:02}" for i in range(16)], "genre": truth,
        "p_A": 0.6, "p_B": 0.3, "p_C": 0.1,
    })  # fmt: skip
    artist = pd.Series([*range(12), 12, 12, 13, 13], table.track_id)
    scored = metrics.score_intervals(table, artist, n_boot=300).set_index("score")
    assert scored.incomplete.iloc[0] > 0.3
    constant = scored.loc["balanced_accuracy"]
    assert constant.value == pytest.approx(1 / 3)
    assert constant.low == constant.high == pytest.approx(1 / 3)
    assert (scored.low <= scored.value).all() and (scored.value <= scored.high).all()
