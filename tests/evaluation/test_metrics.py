"""Scores against scikit-learn and stored values, the bootstrap against scikit-learn's weights."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from msd_genre.evaluation import comparison, metrics
from msd_genre.evaluation.metrics import MetricError
from msd_genre.workspace.registry import RegistryError

DATA = Path(__file__).parents[1] / "data"
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


def calibration_error(confidence, right, weights, n_bins=15):
    "Guo et al. (2017), bin by bin."
    total = 0.0
    for m in range(1, n_bins + 1):
        inside = (confidence > (m - 1) / n_bins) & (confidence <= m / n_bins)
        if weights[inside].sum() > 0:
            share = weights[inside].sum() / weights.sum()
            means = [np.average(x[inside], weights=weights[inside]) for x in (right, confidence)]
            total += share * abs(means[0] - means[1])
    return total


def reference_scores(predictions, weights=None):
    """The scores with scikit-learn, over the genres that have a song (or a weight).

    Of equal probabilities scikit-learn's top-k takes the last column, and any 0 if need be; ours
    takes the first, and no 0. So it gets the columns in reverse, and rows with a 0 no weight.
    """
    truth = predictions.genre.map(CLASSES.index).to_numpy()
    probability = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    answer = probability.argmax(axis=1)
    weights = np.ones(len(truth)) if weights is None else weights
    present = np.unique(truth[weights > 0])
    is_genre = (truth[:, None] == np.arange(len(CLASSES))).astype(int)
    weighted = {"sample_weight": weights}
    macro = {"labels": present, "average": "macro", "zero_division": 0, **weighted}
    ap, k = reference.average_precision_score, len(CLASSES)
    own = probability[np.arange(len(truth)), truth]
    top3 = reference.top_k_accuracy_score(
        k - 1 - truth, probability[:, ::-1], k=3, labels=np.arange(k), normalize=False,
        sample_weight=weights * (own > 0),
    )  # fmt: skip
    return {
        "top3_accuracy": top3 / weights.sum(),
        "log_loss": reference.log_loss(
            truth, np.clip(probability, 1e-15, 1), labels=np.arange(k), sample_weight=weights
        ),
        "calibration_error": calibration_error(probability.max(axis=1), truth == answer, weights),
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
    assert list(values) == list(metrics.SCORES)
    assert stored.keys() == values.keys()
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
    weights = comparison._artist_weights(predictions.track_id.map(artists), 40, seed=0)
    drawn = comparison._weighted_scores(predictions, weights)
    for i in range(weights.shape[1]):
        expected = reference_scores(predictions, weights[:, i].astype(float))
        assert drawn.loc[i, list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)
    assert set(drawn.genres) == {4, 5}  # some resamples lack a genre


def test_fractional_weights_equal_scikit_learn(predictions):
    weights = np.random.default_rng(0).random((len(predictions), 3)) * 0.2
    drawn = comparison._weighted_scores(predictions, weights)
    for i in range(3):
        expected = reference_scores(predictions, weights[:, i])
        assert drawn.loc[i, list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)


def test_a_weight_is_a_number_of_rows(predictions):
    copies = np.random.default_rng(1).integers(0, 4, len(predictions))
    repeated = predictions.loc[np.repeat(predictions.index, copies)].assign(part="validation")
    drawn = comparison._weighted_scores(predictions, copies[:, None]).loc[0, list(metrics.SCORES)]
    assert drawn.to_dict() == pytest.approx(metrics.scores(repeated), abs=1e-12)


def test_artists_are_drawn_whole_and_as_many_as_there_are(artists):
    weights = pd.DataFrame(comparison._artist_weights(artists, 50, seed=3), index=artists)
    by_artist = weights.groupby(level=0)
    assert (by_artist.nunique() == 1).all(axis=None)
    assert (by_artist.first().sum() == artists.nunique()).all()


def test_two_models_of_the_same_songs_get_the_same_resamples(predictions, artists):
    "Whatever the order of their rows: differences can then be paired."
    drawn = comparison.score_intervals(predictions, artists, n_boot=200, seed=5)
    shuffled = predictions.sample(frac=1, random_state=0)
    again = comparison.score_intervals(
        shuffled, artists.sample(frac=1, random_state=1), 200, seed=5
    )
    pd.testing.assert_frame_equal(drawn, again, rtol=0, atol=1e-12)
    other = comparison.score_intervals(predictions, artists, n_boot=200, seed=6)
    assert (drawn.low != other.low).any()


def test_intervals_hold_their_point_and_say_how_often_a_genre_was_missing(predictions, artists):
    table = comparison.score_intervals(predictions, artists, n_boot=500)
    assert table.score.tolist() == list(metrics.SCORES)
    assert (table.low <= table.value).all() and (table.value <= table.high).all()
    assert (table.songs == 90).all() and (table.artists == artists.nunique()).all()
    weights = comparison._artist_weights(predictions.track_id.map(artists), 500, seed=0)
    genres = pd.get_dummies(predictions.genre).T.to_numpy(int) @ weights.astype(int)
    assert table.incomplete.iloc[0] == pytest.approx((genres == 0).any(axis=0).mean())
    narrow = comparison.score_intervals(predictions, artists, n_boot=500, level=0.5)
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
    row = comparison.score_intervals(table, pd.Series(range(2000), index=table.track_id)).iloc[0]
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


def test_majority_gives_every_song_the_shares_of_train(predictions):
    train = pd.Series(["Pop"] * 3 + ["Rock"] * 2 + ["Jazz"])
    answers = metrics._majority_predictions(train, predictions)
    assert set(answers.model) == {"majority"} and answers.p_Polka.max() == 0
    values = metrics.scores(answers)
    assert values["accuracy"] == (predictions.genre == "Pop").mean()
    assert values["balanced_accuracy"] == pytest.approx(1 / 5)
    assert values["top3_accuracy"] == predictions.genre.isin(["Pop", "Rock", "Jazz"]).mean()
    share = predictions.genre.map({"Pop": 3 / 6, "Rock": 2 / 6, "Jazz": 1 / 6}).fillna(1e-15)
    assert values["log_loss"] == pytest.approx(-np.log(share).mean(), abs=1e-12)
    by_genre = metrics.per_class(answers).set_index("genre")
    assert by_genre.ap.dropna().to_dict() == pytest.approx(
        predictions.genre.value_counts(normalize=True).to_dict()
    )
    with pytest.raises(MetricError, match=r"train has songs of \['Waltz'\]"):
        metrics._majority_predictions(pd.Series(["Rock", "Rock", "Waltz"]), predictions)


def test_no_constant_answer_has_a_lower_log_loss_than_the_shares(predictions):
    best = metrics.scores(metrics._majority_predictions(predictions.genre, predictions))["log_loss"]
    rng = np.random.default_rng(0)
    for shares in rng.dirichlet(np.ones(len(CLASSES)), size=50):
        constant = predictions.assign(**{f"p_{g}": s for g, s in zip(CLASSES, shares, strict=True)})
        assert metrics.scores(constant)["log_loss"] > best


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
        comparison.score_intervals(predictions, artists.iloc[:-1])
    with pytest.raises(MetricError, match="repeats tracks"):
        comparison.score_intervals(predictions, pd.concat([artists, artists]))
    with pytest.raises(MetricError, match="by one artist"):
        comparison.score_intervals(predictions, artists.where(artists.isna(), "A"))
    with pytest.raises(MetricError, match="one row a song"):
        comparison._weighted_scores(predictions, np.ones((3, 2)))


def test_models_are_compared_on_the_same_songs_only(predictions, artists):
    other = predictions.iloc[::-1].reset_index(drop=True)
    with pytest.raises(metrics.MetricError, match="the same songs in the same order"):
        comparison.score_models(
            {"a": predictions, "b": other}, artists, predictions.genre, n_boot=5
        )


def test_the_table_of_models_has_the_constant_answer_and_is_sorted(predictions, artists):
    scored = comparison.score_models({"a": predictions}, artists, predictions.genre, n_boot=20)
    assert set(scored.model) == {"a", "majority"}
    genres = {*predictions.genre, *metrics._outputs(predictions)}
    alone = metrics.scores(predictions, sorted(genres))
    assert scored.query("model == 'a'").set_index("score").value.to_dict() == alone
    table = comparison.score_table(scored, sort_by="accuracy")
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
    scored = comparison.score_intervals(table, artist, n_boot=300).set_index("score")
    assert scored.incomplete.iloc[0] > 0.3
    constant = scored.loc["balanced_accuracy"]
    assert constant.value == pytest.approx(1 / 3)
    assert constant.low == constant.high == pytest.approx(1 / 3)
    assert (scored.low <= scored.value).all() and (scored.value <= scored.high).all()


def invented(truth, probability, classes="ABC", **columns):
    "A predictions table of these songs."
    fixed = {"model": "m", "protocol": "p", "fold": 0, "seed": 1, "part": "test"}
    table = pd.DataFrame({"track_id": [f"TR{i:06d}" for i in range(len(truth))], "genre": truth})
    outputs = pd.DataFrame(np.asarray(probability), columns=[f"p_{name}" for name in classes])
    return table.assign(**(fixed | columns)).join(outputs)


def draw_corpus(rng, n_artists, skill=1.2, classes="ABC", shares=(0.5, 0.3, 0.2)):
    """Artists with 1 to 12 songs, of one genre each, some easier than others.

    Returns predictions and the artist of each song. The tests below know the truth about these.
    """
    artist = np.repeat(np.arange(n_artists), rng.geometric(0.25, n_artists).clip(max=12))
    genre = rng.choice(len(classes), n_artists, p=shares)[artist]
    logit = 0.7 * rng.normal(size=(len(artist), len(classes)))
    logit += rng.normal(size=(n_artists, len(classes)))[artist]
    logit[np.arange(len(artist)), genre] += skill
    p = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    table = invented(np.array(list(classes))[genre], p, classes)
    return table, pd.Series(artist, table.track_id)


@pytest.fixture(scope="module")
def covered():
    """200 corpora of 150 artists: which scores lie within their intervals, and the values.

    Two tables with a row a corpus, by artist and by song, and the values of the scores.
    """
    rng, count = np.random.default_rng(11), 200
    truth = pd.Series(metrics.scores(draw_corpus(rng, 40_000)[0]))
    drawn = {"artist": [], "song": []}
    for number in range(count):
        table, artists = draw_corpus(rng, 150)
        units = {"artist": artists, "song": pd.Series(range(len(table)), table.track_id)}
        for unit, groups in units.items():
            one = comparison.score_intervals(table, groups, 200, number).set_index("score")
            drawn[unit].append(one[["low", "value", "high"]].stack())
    drawn = {unit: pd.DataFrame(rows) for unit, rows in drawn.items()}
    value = drawn["artist"].xs("value", axis=1, level=1)
    truth["calibration_error, of this size"] = value.calibration_error.mean()

    def shares(table):
        low, high = (table.xs(side, axis=1, level=1) for side in ("low", "high"))
        of = {name: name.split(",")[0] for name in truth.index}
        return pd.Series({
            name: ((low[of[name]] <= truth[name]) & (truth[name] <= high[of[name]])).mean()
            for name in truth.index})

    return shares(drawn["artist"]), shares(drawn["song"]), value, truth


def test_intervals_cover_the_truth_and_those_of_songs_do_not(covered):
    """Nineteen in twenty intervals should hold the score at large.

    A share of 200 has a standard error of 0.015 at 0.95. The calibration error is another matter.
    """
    names = ["macro_f1", "balanced_accuracy", "accuracy", "macro_ap", "micro_ap", "log_loss"]
    by_artist, by_song, _, _ = covered
    assert by_artist[names].between(0.90, 0.99).all(), by_artist
    assert (by_song[names] < 0.85).all(), by_song


def test_the_interval_of_the_calibration_error_is_that_of_test_sets_of_its_size(covered):
    "As its page says: it covers their mean, and the error at large less often, which lies lower."
    by_artist, _, value, truth = covered
    assert 0.90 <= by_artist["calibration_error, of this size"] < 0.99, by_artist
    assert by_artist["calibration_error"] < by_artist["calibration_error, of this size"], by_artist
    assert value.calibration_error.mean() > 1.2 * truth.calibration_error


def test_the_interval_of_the_calibration_error_holds_its_value():
    "Without the correction it lies above: resamples make gaps of their own."
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.4, 1, 600)
    truth = np.where(rng.random(600) < confidence, "A", np.where(rng.random(600) < 0.5, "B", "C"))
    rest = (1 - confidence) / 2
    table = invented(truth, np.c_[confidence, rest, rest])
    groups = pd.Series(range(600), table.track_id)
    weights = comparison._artist_weights(groups, 300, 0)
    row = comparison.score_intervals(table, groups, 300).set_index("score").loc["calibration_error"]
    assert row.low < row.value < row.high
    raw = comparison._weighted_scores(table, weights).calibration_error
    assert row.value < raw.quantile(0.1)
    assert row.high - row.low <= raw.quantile(0.975) - raw.quantile(0.025) + 1e-12


@pytest.mark.slow
def test_paired_intervals_are_narrower_and_cover_the_truth():
    """Two models that stumble over the same artists; the difference of their scores is known."""
    rng, count = np.random.default_rng(5), 150

    def two(n_artists):
        table, artists = draw_corpus(rng, n_artists)
        p = table[["p_A", "p_B", "p_C"]].to_numpy() * np.exp(0.8 * rng.normal(size=(len(table), 3)))
        return {"one": table, "other": invented(table.genre, p / p.sum(axis=1)[:, None])}, artists

    large, _ = two(40_000)
    names = ["macro_f1", "accuracy", "log_loss"]
    truth = [metrics.scores(large["other"])[n] - metrics.scores(large["one"])[n] for n in names]
    covered = np.zeros(len(names))
    for number in range(count):
        tables, artists = two(150)
        pair = comparison.paired_differences(tables, "one", artists, 200, number).set_index("score")
        low, high = pair.loc[names, "low"], pair.loc[names, "high"]
        covered += ((low <= truth) & (truth <= high)).to_numpy()
    assert ((covered / count > 0.90) & (covered / count < 0.99)).all(), covered / count
    apart = [
        comparison.score_intervals(t, artists, 200).set_index("score") for t in tables.values()
    ]
    errors = [(table.high - table.low).loc[names] for table in apart]
    unpaired = np.sqrt(errors[0] ** 2 + errors[1] ** 2)
    assert ((pair.high - pair.low).loc[names] < 0.8 * unpaired).all()


def test_a_difference_is_that_of_the_scores_and_its_resamples_are_shared(predictions, artists):
    other = predictions.assign(p_Rock=predictions.p_Pop, p_Pop=predictions.p_Rock)
    tables = {"a": predictions, "b": other, "same": predictions}
    pair = comparison.paired_differences(tables, "a", artists, n_boot=100, seed=2)
    assert pair.model.unique().tolist() == ["b", "same"]
    ours, theirs = (metrics.scores(table, sorted(CLASSES)) for table in (other, predictions))
    b = pair.query("model == 'b'").set_index("score")
    expected = {name: ours[name] - theirs[name] for name in metrics.SCORES}
    assert b.difference.to_dict() == pytest.approx(expected, abs=1e-12)
    same = pair.query("model == 'same'")
    assert (same[["difference", "low", "high", "better"]] == 0).all(axis=None)
    weights = comparison._artist_weights(predictions.track_id.map(artists), 100, seed=2)
    drawn = [
        comparison._weighted_scores(t, weights, fill_absent=True) for t in (other, predictions)
    ]
    gain = (drawn[0] - drawn[1]).macro_f1
    assert b.loc["macro_f1", "low"] == pytest.approx(gain.quantile(0.025), abs=1e-12)
    assert b.loc["macro_f1", "better"] == (gain > 0).mean()
    loss = (drawn[0] - drawn[1]).log_loss  # lower is better
    assert b.loc["log_loss", "better"] == (loss < 0).mean() != (loss > 0).mean()


def test_a_difference_needs_a_known_reference_and_the_same_songs(predictions, artists):
    with pytest.raises(MetricError, match=r"no model 'c' .* there are \['a'\]"):
        comparison.paired_differences({"a": predictions}, "c", artists)
    with pytest.raises(MetricError, match="same songs in the same order: b is not like a"):
        comparison.paired_differences({"a": predictions, "b": predictions[::-1]}, "a", artists)
    with pytest.raises(MetricError, match="no artist for track"):
        comparison.paired_differences({"a": predictions}, "a", artists.iloc[:-1])


MIX = pd.Series({"Rock": 0.2, "Pop": 0.3, "Jazz": 0.1, "Folk": 0.4})  # Polka: none


def test_a_mix_gives_genres_their_shares(predictions, artists):
    "Equal to scikit-learn with rows weighted by share / songs of the genre; Polka has none."
    weight = (predictions.genre.map(MIX / predictions.genre.value_counts()).fillna(0)).to_numpy()
    expected = reference_scores(predictions, weight)
    table = comparison.score_intervals(predictions, artists, n_boot=50, mix=MIX)
    assert table.set_index("score").value.to_dict() == pytest.approx(expected, abs=1e-12)
    assert (table.low <= table.value).all() and (table.value <= table.high).all()
    scaled = comparison.score_intervals(predictions, artists, n_boot=50, mix=7 * MIX)
    pd.testing.assert_frame_equal(table, scaled, rtol=0, atol=1e-12)


def test_in_the_songs_own_mix_only_the_resamples_differ(predictions, artists):
    own = predictions.genre.value_counts(normalize=True)
    mixed = comparison.score_intervals(predictions, artists, mix=own, n_boot=100).set_index("score")
    assert mixed.value.to_dict() == pytest.approx(metrics.scores(predictions), abs=1e-12)
    free = comparison.score_intervals(predictions, artists, n_boot=100).set_index("score")
    assert mixed.incomplete.iloc[0] == free.incomplete.iloc[0] > 0


def test_each_resample_has_the_mix_whatever_it_drew(predictions, artists):
    weights = comparison._artist_weights(predictions.track_id.map(artists), 30, seed=0)
    drawn = comparison._weighted_scores(predictions, weights, mix=MIX)
    counts = predictions.genre.value_counts()
    for i in range(30):
        taken = pd.Series(weights[:, i].astype(float))
        sums = taken.groupby(predictions.genre).sum()
        taken = taken.where(predictions.genre.map(sums) > 0, 1.0)  # absent: all of its rows
        per_song = MIX / sums.where(sums > 0, counts)
        taken *= predictions.genre.map(per_song).fillna(0)
        expected = reference_scores(predictions, taken.to_numpy())
        assert drawn.loc[i, list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)


def test_in_equal_shares_accuracy_is_balanced_accuracy(predictions, artists):
    equal = pd.Series(1.0, predictions.genre.unique())
    table = comparison.score_intervals(predictions, artists, 50, mix=equal).set_index("score")
    columns = ["value", "low", "high"]
    expected = table.loc["balanced_accuracy", columns].to_dict()
    assert table.loc["accuracy", columns].to_dict() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (pd.Series({"Rock": 0.5, "Opera": 0.5}), r"mix has \['Opera'\], of which there is no song"),
        (pd.Series({"Rock": 0.5, "Waltz": 0.5}), r"mix has \['Waltz'\]"),
        (pd.Series({"Rock": 1.5, "Pop": -0.5}), "share >= 0"),
        (pd.Series({"Rock": 1.0, "Pop": np.nan}), "share >= 0"),
        (pd.Series({"Rock": 0.0}), "not all of them 0"),
        (pd.Series([0.5, 0.5], index=["Rock", "Rock"]), "each genre once"),
    ],
)
def test_a_mix_that_cannot_be_had_is_refused(predictions, artists, mix, message):
    with pytest.raises(MetricError, match=message):
        comparison.score_intervals(predictions, artists, n_boot=5, mix=mix)


def test_reliability_has_every_song_once_and_adds_up_to_the_error(predictions):
    table = metrics.reliability(predictions)
    assert table.columns.tolist() == ["low", "high", "confidence", "accuracy", "songs"]
    assert table.songs.sum() == len(predictions) and table.songs.min() > 0
    assert ((table.low < table.confidence) & (table.confidence <= table.high)).all()
    gap = (table.accuracy - table.confidence).abs() @ table.songs / table.songs.sum()
    assert gap == pytest.approx(metrics.scores(predictions)["calibration_error"], abs=1e-12)


def test_a_sure_and_a_hedged_answer_fall_into_their_own_bins():
    third = [1 / 3] * 3
    table = metrics.reliability(invented(["A", "A", "B"], [[1, 0, 0], third, [1, 0, 0]]), n_bins=10)
    assert table.songs.tolist() == [1, 2]
    assert table.low.tolist() == pytest.approx([0.3, 0.9])
    assert table.accuracy.tolist() == [1, 0.5]


def test_a_genre_of_probability_0_is_not_among_the_three():
    "One song, sure of A: whether B or C, it was not among the answers."
    table = invented(["B", "A", "D"], [[1, 0, 0, 0], [1, 0, 0, 0], [0.4, 0.3, 0.2, 0.1]], "ABCD")
    values = metrics.scores(table)
    assert values["top3_accuracy"] == pytest.approx(1 / 3)
    assert values["log_loss"] == pytest.approx(-np.log([1e-15, 1, 0.1]).mean())


def test_missed_songs_are_those_that_all_get_wrong():
    truth = ["A", "B", "C", "A"]
    one = invented(truth, [[0.1, 0.8, 0.1], [0, 0.9, 0.1], [0.5, 0.3, 0.2], [0, 0, 1]])
    two = invented(truth, [[0.2, 0.2, 0.6], [0.6, 0.4, 0], [0.3, 0.4, 0.3], [0, 0, 1]])
    three = invented(truth, [[0.2, 0.7, 0.1], [0, 1, 0], [0.3, 0.6, 0.1], [0.6, 0.4, 0]])
    missed = comparison.missed_by_all({"one": one, "two": two, "three": three})
    assert missed.track_id.tolist() == ["TR000000", "TR000002"]
    assert missed.answer.tolist() == ["B", "B"]
    assert missed.confidence.tolist() == pytest.approx([0.7, 0.5])
    assert missed.p_true.tolist() == pytest.approx([0.5 / 3, 0.2])
    fewer = comparison.missed_by_all({"one": one, "two": two.drop(columns="p_C").assign(
        p_B=two.p_B + two.p_C)})
    assert fewer.track_id.tolist() == ["TR000003", "TR000002", "TR000000"]
    copies = {name: pd.concat([table, table]).assign(part="validation")
              for name, table in {"1": one, "2": two}.items()}
    assert comparison.missed_by_all(copies).track_id.is_unique


def test_the_spread_over_folds_and_over_seeds(predictions):
    "Three folds under seed 1, two seeds on fold 0: each is compared with the other held."
    parts = [predictions.iloc[i::3] for i in range(3)]
    trainings = [part.assign(fold=fold) for fold, part in enumerate(parts)]
    other = parts[0].assign(fold=0, seed=7, p_Rock=parts[0].p_Pop, p_Pop=parts[0].p_Rock)
    table = comparison.spread(pd.concat([*trainings, other])).set_index(["over", "score"])
    each = pd.DataFrame([metrics.scores(part, CLASSES) for part in parts])
    over = table.loc["folds"]
    assert (over.n == 3).all()
    assert over["mean"].to_dict() == pytest.approx(each.mean().to_dict())
    assert over["sd"].to_dict() == pytest.approx(each.std().to_dict())
    assert over["low"].to_dict() == pytest.approx(each.min().to_dict())
    assert over["high"].to_dict() == pytest.approx(each.max().to_dict())
    two = [metrics.scores(parts[0])["macro_f1"], metrics.scores(other)["macro_f1"]]
    seeds = table.loc["seeds", "macro_f1"]
    assert seeds.n == 2 and [seeds.low, seeds.high] == pytest.approx(sorted(two))
    folds_only = comparison.spread(pd.concat(trainings))
    assert set(folds_only.over) == {"folds"}
    with pytest.raises(MetricError, match="one fold and one seed"):
        comparison.spread(predictions)


def test_a_table_of_scores_puts_the_best_first_also_where_less_is_better(predictions, artists):
    tables = {"a": predictions, "b": predictions.assign(
        p_Rock=predictions.p_Pop, p_Pop=predictions.p_Rock)}
    scored = comparison.score_models(tables, artists, predictions.genre, n_boot=20)
    for score in metrics.SCORES:
        order = comparison.score_table(scored, sort_by=score, scores=[score]).model.tolist()
        value = scored.query("score == @score").set_index("model").value
        lowest_first = metrics.SCORES[score].lower_is_better
        assert value[order].is_monotonic_increasing if lowest_first else (
            value[order].is_monotonic_decreasing)
    columns = ["model", "macro-F1", "balanced accuracy", "accuracy", "top-3 accuracy"]
    columns += ["macro AP", "micro AP", "log loss", "calibration error"]
    assert comparison.score_table(scored).columns.tolist() == columns
    chosen = comparison.score_table(scored, scores=["log_loss", "macro_f1"])
    assert chosen.columns.tolist() == ["model", "log loss", "macro-F1"]
    old = scored[scored.score.isin(["macro_f1", "accuracy"])]  # recorded before the others were
    assert comparison.score_table(old).columns.tolist() == ["model", "macro-F1", "accuracy"]
    with pytest.raises(MetricError, match=r"no score \['log_loss'\]"):
        comparison.score_table(old, scores=["log_loss"])


@pytest.fixture
def kappa(monkeypatch):
    "Cohen's kappa as one more score, for one test."
    monkeypatch.setattr(metrics.SCORES, "_entries", dict(metrics.SCORES._entries))

    @metrics.register_score("kappa", "Cohen's kappa")
    def compute(counts):
        "The agreement beyond that of independent predictions."
        agreement = counts.right.sum(axis=0) / counts.total
        expected = (counts.true * counts.predicted).sum(axis=0) / counts.total**2
        return (agreement - expected) / (1 - expected)

    return metrics.SCORES["kappa"]


def test_one_entry_adds_a_score_with_its_interval(predictions, artists, kappa):
    truth = predictions.genre
    answer = predictions.filter(like="p_").idxmax(axis=1).str.removeprefix("p_")
    names = ["accuracy", "kappa"]
    values = metrics.scores(predictions, names=names)
    expected = reference.cohen_kappa_score(truth, answer)
    assert values == pytest.approx({"accuracy": (truth == answer).mean(), "kappa": expected})
    weights = np.random.default_rng(0).random((len(predictions), 3))
    drawn = comparison._weighted_scores(predictions, weights, names=names)
    assert drawn.columns.tolist() == [*names, "genres"]
    for i in range(3):
        expected = reference.cohen_kappa_score(truth, answer, sample_weight=weights[:, i])
        assert drawn.kappa[i] == pytest.approx(expected, abs=1e-12)
    table = comparison.score_intervals(predictions, artists, n_boot=200, names=names)
    (row,) = table.query("score == 'kappa'").itertuples()
    assert row.low < row.value == values["kappa"] < row.high
    shown = comparison.score_table(table.assign(model="a"), "kappa")
    assert shown.columns.tolist() == ["model", "accuracy", kappa.title]
    half = predictions.assign(fold=np.arange(len(predictions)) % 2)
    assert comparison.spread(half, names).score.tolist() == names
    pair = comparison.paired_differences({"a": predictions, "b": predictions}, "a", artists, 20,
                                         names=["kappa"])  # fmt: skip
    assert pair.score.tolist() == ["kappa"] and (pair.difference == 0).all()


def test_a_score_that_was_not_asked_for_is_not_computed(predictions, artists, kappa):
    assert "kappa" not in metrics.scores(predictions)
    assert "kappa" not in set(comparison.score_intervals(predictions, artists, 20).score)
    alone = comparison.score_intervals(predictions, artists, 20, names=["macro_ap"])
    every = comparison.score_intervals(predictions, artists, 20)
    pd.testing.assert_frame_equal(alone, every.query("score == 'macro_ap'").reset_index(drop=True))
    with pytest.raises(RegistryError, match=r"no score 'gini'; there is macro_f1, .*, kappa"):
        metrics.scores(predictions, names=["gini"])


def test_every_score_says_what_it_means():
    assert all(score.meaning.endswith(".") for score in metrics.SCORES.values())
    assert "kappa" not in metrics.SCORES


@pytest.mark.parametrize("interval, expected", [
    ((0.04, 0.01, 0.07), "clearly better"), ((-0.04, -0.07, -0.01), "clearly worse"),
    ((0.02, -0.001, 0.04), "not distinguishable"), ((0.02, 0.0, 0.04), "not distinguishable"),
    ((0.0, 0.0, 0.0), "not distinguishable"), ((-0.01, 0.01, 0.02), "not distinguishable"),
    ((np.nan, np.nan, np.nan), "not distinguishable"),
])  # fmt: skip
def test_a_verdict_is_clear_if_the_interval_lies_on_one_side_of_zero(interval, expected):
    assert comparison.verdict(*interval) == expected
    opposite = {"clearly better": "clearly worse", "clearly worse": "clearly better"}
    for turned in (comparison.verdict(*interval, lower_is_better=True),
                   comparison.verdict(*-comparison.Estimate(*interval))):
        assert turned == opposite.get(expected, expected)
    link = "than" if expected.startswith("clearly") else "from"
    assert comparison.verdict(*interval, than="the CNN") == f"{expected} {link} the CNN"


@pytest.mark.parametrize("interval, spec, expected", [
    ((0.52, 0.41, 0.61), "", "0.52 [0.41, 0.61]"),
    ((0.002, -0.001, 0.01), "", "0.00 [0.00, 0.01]"),
    ((-0.25, -0.5, -0.004), "", "−0.25 [−0.50, 0.00]"),
    ((0.04, 0.01, 0.07), "+.2f", "+0.04 [+0.01, +0.07]"),
    ((-0.04, -0.07, 0.001), "+.2f", "−0.04 [−0.07, 0.00]"),
    ((-0.001, -0.02, 0.01), "+.2f", "no difference (to two decimals) [−0.02, +0.01]"),
    ((0.0001, -0.02, 0.01), "+.3f", "no difference (to three decimals) [−0.020, +0.010]"),
    ((-0.3, -2, 1), "+.0f", "no difference (to whole numbers) [−2, +1]"),
    ((10, -20, 100), "+.0f", "+10 [−20, +100]"),
    ((0.551, 0.5, 0.6), ".0%", "55% [50%, 60%]"),
    ((0.001, -0.02, 0.1), "+.0%", "no difference (to whole percent) [−2%, +10%]"),
])  # fmt: skip
def test_an_estimate_is_written_with_its_interval(interval, spec, expected):
    assert format(comparison.Estimate(*interval), spec) == expected
    if not spec:
        assert str(comparison.Estimate(*interval)) == expected
