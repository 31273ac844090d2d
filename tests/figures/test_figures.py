"""Figures: what they promise to chapters, to the site, and to the other modules."""

import html
import io
import itertools
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pypandoc
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve

from msd_genre.evaluation import published
from msd_genre.figures import explanations, maps, models, songs
from msd_genre.figures import scores as score_figures
from msd_genre.figures import style as figure_style
from msd_genre.figures import tables as table_figures

GENRES = [
    *("Vocal", "Punk", "Rock", "Country", "Blues", "New", "World", "Reggae", "Jazz", "Folk"),
    *("RnB", "International", "Pop_Rock", "Electronic", "Metal", "Rap", "Pop", "Latin"),
]  # the write-up's 18
Song = namedtuple("Song", "start_s chroma timbre")


def _rng():
    return np.random.default_rng(7)


def _song(n):
    rng = _rng()
    starts = np.r_[0, np.cumsum(rng.gamma(2, 0.15, n - 1))]
    return Song(starts, rng.random((n, 12)), rng.normal(0, 60, (n, 12)))


def _songs(count=3):
    title = "An Artist With a Name: A Title That Takes $ and Two Lines"
    return {f"{title} {number}": _song(320 + number) for number in range(count)}


def _counts():
    return pd.Series(np.arange(len(GENRES))[::-1] ** 3, index=GENRES)


def _steps():
    names = [
        "song files found",
        "a step whose name is so long that it takes two lines",
        "with lyrics",
    ]
    return pd.DataFrame({"step": names, "kept": [1_000_000, 59_134, 32_648]})


def _plays():
    share = np.linspace(0, 1, 50)
    return pd.DataFrame({"songs_share": share, "plays_share": share**0.3})


def _history(model, epochs):
    fall = np.exp(-np.arange(epochs) / 3)
    return pd.DataFrame(
        {
            "model": model,
            "epoch": range(1, epochs + 1),
            "accuracy": 0.7 - 0.5 * fall,
            "loss": 1 + 80 * fall,
            "val_accuracy": 0.5 - 0.3 * fall,
            "val_loss": 2 + 80 * fall,
        }
    )


def _grid_setting():
    history = published.grid_history()
    chosen = history[(history["batch_size"] == 10) & (history["learning_rate"] == 1e-3)]
    return chosen[chosen["filters"] == 128]


def _decisions():
    rng = _rng()
    truth = rng.integers(0, len(GENRES), 400)
    scores = rng.random((400, len(GENRES))) + 0.5 * np.eye(len(GENRES))[truth]
    return np.eye(len(GENRES))[truth], scores


def _curves():
    truth, scores = _decisions()
    parts = {g: (truth[:, i], scores[:, i]) for i, g in enumerate(GENRES)}
    parts["micro"] = truth.ravel(), scores.ravel()
    tables = []
    for genre, pair in parts.items():
        precision, recall, _ = precision_recall_curve(*pair)
        tables.append(pd.DataFrame({"genre": genre, "recall": recall, "precision": precision}))
    return pd.concat(tables, ignore_index=True)


def _matrix():
    counts = _rng().poisson(np.eye(len(GENRES)) * 3000 + 30)
    counts[GENRES.index("International")] = 0
    return pd.DataFrame(counts, index=GENRES, columns=GENRES)


def _scores():
    table = pd.DataFrame(
        itertools.product(
            ["baseline", "cnn", "lstm", "logistic regression on statistics"],
            ["accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "macro_ap"],
        ),
        columns=["model", "score"],
    )
    value = _rng().uniform(0.2, 0.6, len(table))
    return table.assign(value=value, low=value - 0.05, high=value + 0.04)


MODELS = [f"{model} {how}" for model in ("baseline", "cnn", "lstm")
          for how in ("as written", "as coded")]
MODELS += ["majority", "random", "artist", "year and language", "logistic", "trees",
           "cnn as coded, inputs scaled", "logistic regression on statistics"]  # fmt: skip
PANELS = ["macro_f1", "balanced_accuracy", "accuracy", "top3_accuracy", "macro_ap", "log_loss"]


def _many_scores():
    "Fourteen models; the log loss of one that is sure and wrong is out of all proportion."
    table = pd.DataFrame(itertools.product(MODELS, PANELS), columns=["model", "score"])
    value = _rng().uniform(0.05, 0.8, len(table)) + 1.5 * (table["score"] == "log_loss")
    value[(table["model"] == "random") & (table["score"] == "log_loss")] = 28.0
    return table.assign(value=value, low=value - 0.04, high=value + 0.04)


def _differences(count=13):
    difference = _rng().normal(0, 0.06, count)
    table = pd.DataFrame({"model": MODELS[-count:], "difference": difference})
    return table.assign(low=difference - 0.05, high=difference + 0.06)


def _reliability(count=9):
    tables = []
    for model in MODELS[-count:]:
        confidence = np.linspace(0.25, 0.95, 8)
        accuracy = np.clip(confidence**1.5 + _rng().normal(0, 0.05, 8), 0, 1)
        tables.append(pd.DataFrame({"model": model, "confidence": confidence,
                                    "accuracy": accuracy, "songs": np.arange(1, 80, 10)}))
    return pd.concat(tables)


def _waterfall():
    value = np.array([0.55, 0.31, 0.47, 0.38, 0.4])
    return pd.DataFrame({
        "step": ["validation rows, as published", "no copies of train rows", "the natural mix",
                 "artists that it never heard", "outputs for none but the genres that were learnt"],
        "value": value, "low": value - 0.05, "high": value + np.array([0.4, 0.05, 0.04, 0.06, 0.1]),
        "chance": [0.21, 0.21, 0.52, 0.5, np.nan],
        "kind": ["trained", "measured", "measured", "trained", "trained"],
    })  # fmt: skip


def _points(n=500):
    rng = _rng()
    genre = rng.choice(GENRES, n, p=_counts() / _counts().sum())
    return pd.DataFrame({"x": rng.normal(0, 9, n), "y": rng.normal(0, 9, n), "genre": genre})


def _maps():
    spaces = ["CNN as written", "whole-song statistics", "lyric vector"]
    return pd.concat([_points(200).assign(space=space) for space in spaces])


def _by_genre():
    rng, n = _rng(), len(GENRES)
    value = rng.random(n) * 0.6
    return pd.DataFrame({"genre": GENRES, "songs": rng.integers(1, 4000, n), "value": value,
                         "low": value * 0.7, "high": value * 1.2, "chance": rng.random(n) * 0.5})


def _clusters(count=16):
    return _points().assign(cluster=_rng().integers(0, count + 1, 500) - 1).replace(
        {"cluster": {0: -1}})


def _attributions(n=300):
    columns = [f"{name}_{i:02d}" for name in ("chroma", "timbre") for i in range(12)]
    table = pd.DataFrame(_rng().normal(0, 0.01, (n, 24)), columns=columns)
    return table.assign(start_s=np.arange(n) * 0.28)


def _activity():
    return pd.concat([pd.DataFrame({"start_s": np.arange(37) * 2.2, "filter": f"timbre {number}",
                                    "activation": _rng().random(37)}) for number in range(6)])


def _inputs():
    table = pd.DataFrame(_rng().normal(1, 1, (18, 3)), columns=["chroma", "timbre", "lyrics"])
    return table.assign(genre=GENRES)[["genre", "chroma", "timbre", "lyrics"]]


def _profiles():
    profiles = _attributions(18).drop(columns="start_s").set_axis(GENRES)
    times = pd.DataFrame(_rng().normal(0, 0.1, (18, 24)), GENRES, np.arange(24) * 5)
    return profiles, times


def _layers():
    rows = [
        (f"{kind}", "InputLayer", (None, 300, 12), 0, "") for kind in ("chroma", "timbre", "lyrics")
    ]
    for kind in ("chroma", "timbre"):
        rows.append((f"{kind}_convolution_1", "Conv1D", (None, 297, 128), 131_328, kind))
        rows.append(
            (f"{kind}_mean", "GlobalAveragePooling1D", (None, 128), 0, f"{kind}_convolution_1")
        )
    rows.append(("song", "Concatenate", (None, 306), 0, "chroma_mean, timbre_mean, lyrics"))
    rows.append(("genre", "Dense", (None, 18), 5526, "song"))
    return pd.DataFrame(rows, columns=["layer", "kind", "output_shape", "parameters", "inputs"])


FIGURES = {
    "funnel": lambda: songs.funnel(_steps(), published.funnel()),
    "genre_histogram": lambda: songs.genre_histogram(_counts(), published.genre_counts()),
    "chroma_heatmap": lambda: songs.song_heatmaps(_songs()),
    "timbre_heatmap": lambda: songs.song_heatmaps(_songs(4), "timbre", shown=90),
    "segment_counts": lambda: songs.segment_counts(_rng().integers(310, 3000, 700)),
    "segment_lengths": lambda: songs.segment_lengths(_rng().lognormal(-1.5, 0.6, 5000)),
    "lyric_coverage": lambda: songs.lyric_coverage(
        pd.DataFrame(
            {"found": ["", "reverse", "stem"], "words": [338, 653, 4009], "tokens": [90, 700, 9210]}
        )
    ),
    "model_diagram": lambda: models.model_diagram(_layers(), "cnn"),
    "learning_curves": lambda: models.learning_curves(
        pd.concat([_history("baseline", 9), _history("cnn", 20)], ignore_index=True),
        _grid_setting(),
    ),
    "learning_curves, one epoch": lambda: models.learning_curves(_history("", 1)),
    "learning_curves, logarithmic": lambda: models.learning_curves(pd.concat(
        [_history("lstm as written", 4).assign(loss=2.0, val_loss=1.9),
         _history("lstm as coded", 4).assign(loss=[47, 27, 22, 19], val_loss=[30, 24, 20, 18])])),
    "precision_recall": lambda: score_figures.precision_recall(_curves()),
    "confusion": lambda: score_figures.confusion(_matrix()),
    "score_intervals": lambda: score_figures.score_intervals(
        _scores(), {"accuracy": 0.52, "macro_f1": 0.04}, published.scores()
    ),
    "score_intervals, fourteen models": lambda: score_figures.score_intervals(
        _many_scores(), dict.fromkeys(PANELS, 0.3) | {"log_loss": 1.6}, published.scores()
    ),
    "confusion, counts": lambda: score_figures.confusion(_matrix(), show="count"),
    "differences": lambda: score_figures.differences(_differences(), "cnn as written"),
    "differences, one": lambda: score_figures.differences(_differences(1), MODELS[-2], "log_loss"),
    "reliability": lambda: score_figures.reliability(_reliability()),
    "reliability, one": lambda: score_figures.reliability(_reliability(1)),
    "waterfall": lambda: score_figures.waterfall(_waterfall()),
    "waterfall, another score": lambda: score_figures.waterfall(
        _waterfall().assign(kind=["trained", *["measured"] * 3, "another score"])),
    "waterfall, one step": lambda: score_figures.waterfall(_waterfall().tail(1), "macro_f1"),
    "embedding_map": lambda: maps.embedding_map(_points()),
    "embedding_maps": lambda: maps.embedding_map(_maps()),
    "retrieval_by_genre": lambda: maps.retrieval_by_genre(_by_genre()),
    "cluster_map": lambda: maps.cluster_map(_clusters()),
    "cluster_map, none": lambda: maps.cluster_map(_points().assign(cluster=-1)),
    "input_attributions": lambda: explanations.input_attributions(_inputs()),
    "song_attributions": lambda: explanations.song_attributions(
        _attributions(), _activity(), "An Artist With $ and a Name: A Title: answered Latin"),
    "song_attributions, no filters": lambda: explanations.song_attributions(
        _attributions(), _activity().head(0)),
    "attribution_profiles": lambda: explanations.attribution_profiles(*_profiles()),
    "value_map": lambda: maps.value_map(
        _points().assign(value=range(len(_points()))), "bin of plays", "No order on the map"),
    "cumulative_plays": lambda: score_figures.cumulative_plays(_plays(), [1, 4, 9, 30, 120]),
    "cumulative_plays, no bins": lambda: score_figures.cumulative_plays(_plays()),
    "correlations": lambda: score_figures.correlations(
        _differences().rename(columns={"difference": "value"})),
    "null_distribution": lambda: score_figures.null_distribution(
        {"sound": (0.2, _rng().normal(0, 0.05, 99)), "words": (0.0, _rng().normal(0, 0.05, 99))}),
}


@pytest.fixture(scope="module", params=FIGURES, ids=str)
def figure(request):
    drawn = FIGURES[request.param]()
    drawn.draw_without_rendering()
    return drawn


def test_returns_a_closed_figure(figure):
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == []


def test_nothing_is_cut_off(figure):
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == figure_style.WIDTH_IN
    assert drawn.x0 >= -0.01 and drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01 and drawn.y1 <= height + 0.01


def test_title_stands_clear_of_panels_and_legends(figure):
    title = figure._suptitle
    assert title.get_text()
    below = [axes.get_tightbbox() for axes in figure.axes]
    below += [legend.get_window_extent() for legend in figure.legends]
    assert not any(title.get_window_extent().overlaps(box) for box in below if box is not None)


def test_legends_stand_clear_of_panels(figure):
    for legend in figure.legends:
        assert not any(
            legend.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes
        )


def test_panels_have_labels(figure):
    labels = [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())]
    labels += [figure.get_supxlabel(), figure.get_supylabel()]
    assert any(labels) or not any(axes.axison for axes in figure.axes)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("funnel", "tracks"),
        ("genre_histogram", "(%)"),
        ("chroma_heatmap", "(s)"),
        ("timbre_heatmap", "(s)"),
        ("segment_counts", "songs"),
        ("segment_lengths", "(s,"),
        ("lyric_coverage", "(%)"),
        ("learning_curves", "(%)"),
        ("confusion", "(%)"),
        ("score_intervals", "(0 to 1)"),
        ("score_intervals, fourteen models", "(nats)"),
        ("confusion, counts", "songs (logarithmic)"),
        ("differences", "macro-F1, minus that of cnn as written"),
        ("differences, one", "less is better"),
        ("reliability", "(probability)"),
        ("waterfall", "accuracy (0 to 1)"),
        ("embedding_map", "(no unit)"),
        ("song_attributions", "(s)"),
        ("input_attributions", "(nats)"),
        ("value_map", "(no unit)"),
        ("cumulative_plays", "(%)"),
        ("correlations", "(−1 to 1)"),
        ("null_distribution", "rank correlation"),
    ],
)
def test_axes_say_their_unit(name, unit):
    drawn = FIGURES[name]()
    labels = [text for axes in drawn.axes for text in (axes.get_xlabel(), axes.get_ylabel())]
    assert any(unit in label for label in [*labels, drawn.get_supxlabel()])


# A genre's look


def test_every_genre_of_the_writeup_has_its_own_look():
    styles = [figure_style._GENRE_STYLE[genre] for genre in GENRES]
    assert len({(style.colour, style.marker) for style in styles}) == len(GENRES)
    assert len({(style.colour, style.dash) for style in styles}) == len(GENRES)


def test_looks_are_fixed():
    assert figure_style.genre_style("Rock").colour == "#0072B2"
    assert figure_style.genre_style("Metal") == ("#000000", "o", "")
    assert (
        figure_style.genre_style("New Age")
        == figure_style.genre_style("New")
        == ("#56B4E9", "s", (4, 1.5))
    )


def test_an_unknown_genre_gets_one_look_and_no_known_one():
    style = figure_style.genre_style("Spacefolk")
    assert style == figure_style.genre_style("Spacefolk")
    assert style.marker not in {known.marker for known in figure_style._GENRE_STYLE.values()}


@pytest.mark.parametrize(
    "blindness",
    [
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ],
    ids=["protanopia", "deuteranopia", "tritanopia"],
)
def test_colours_differ_for_the_colour_blind(blindness):
    # Machado, Oliveira and Fernandes (2009), severity 1; distances in CIE L*a*b*, D65.
    rgb = np.array([to_rgb(colour) for colour in figure_style.OKABE_ITO.values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(blindness), 0, 1)
    xyz = (
        seen
        @ np.transpose(
            [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        )
        / [0.9505, 1, 1.089]
    )
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.c_[116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)]
    assert min(distances) > 10


# What figures say


def test_legend_has_the_average_precision_of_scikit_learn():
    truth, scores = _decisions()
    pooled = average_precision_score(truth.ravel(), scores.ravel())
    legend = score_figures.precision_recall(_curves()).axes[0].get_legend()
    texts = {text.get_text().split("  ")[1]: text.get_text()[:4] for text in legend.get_texts()}
    assert texts["all pooled (micro)"] == f"{pooled:.2f}"
    expected = average_precision_score(truth, scores, average=None)
    assert [texts[genre] for genre in GENRES] == [f"{score:.2f}" for score in expected]


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("funnel", "32,648 of 1,000,000 tracks remain (3.3%)"),
        ("genre_histogram", "Vocal is 21.0% of 23,409 songs"),
        ("lyric_coverage", "99.1% of 10,000 words sung and 93.2% of 5,000 stems have a vector"),
        ("model_diagram", "cnn: 9 layers, 268,182 parameters, 97.9% of them in Conv1D layers"),
        (
            "waterfall",
            "From 0.55 to 0.40 accuracy; the largest step is “no copies of train rows”, −0.24",
        ),
        ("waterfall, one step", "One step: macro-F1 0.40"),
    ],
)
def test_title_states_the_finding(name, finding):
    assert FIGURES[name]()._suptitle.get_text().replace("\n", " ") == finding


def test_confusion_names_the_error_of_most_songs():
    matrix = pd.DataFrame([[90, 10], [6, 4]], index=["Rock", "Punk"], columns=["Rock", "Punk"])
    title = score_figures.confusion(matrix)._suptitle.get_text().replace("\n", " ")
    assert title == (
        "85.5% of 110 songs are on the diagonal; the most frequent error: "
        "10 of Rock (10.0%) taken for Punk"
    )


def test_map_counts_nearest_neighbours_of_the_same_genre():
    genres = ["Rock", "Rock", "Rap", "Pop", "Pop"]  # by chance, 2 of 10 pairs are alike
    points = pd.DataFrame({"x": [0, 0, 10, 11.5, 12], "y": 0, "genre": genres})
    title = maps.embedding_map(points)._suptitle.get_text()
    assert title.startswith("80.0% of 5 songs") and title.endswith("(shuffled: 20.0%)")


def test_published_new_meets_our_new_age():
    drawn = songs.genre_histogram(
        pd.Series({"Rock": 3, "New Age": 1}), pd.Series({"Rock": 1, "New": 1})
    )
    assert [tick.get_text() for tick in drawn.axes[0].get_yticklabels()] == [
        "Rock (3)",
        "New Age (1)",
    ]


def test_heatmap_columns_begin_where_segments_begin():
    song = _song(320)
    mesh = songs.song_heatmaps({"A: B": song}).axes[0].collections[0]
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, song.start_s[:301])
    np.testing.assert_allclose(mesh.get_array(), song.chroma[:300].T)


def test_heatmap_of_a_song_with_one_segment():
    drawn = songs.song_heatmaps(
        {"A: B": Song(np.zeros(1), np.ones((1, 12)), np.ones((1, 12)))}, "timbre")
    assert drawn.axes[0].get_xlim() == (0, 1)


def test_epochs_on_the_axis_are_those_that_were_run():
    drawn = models.learning_curves(_history("cnn", 3))
    for axes in drawn.axes[:2]:  # accuracy and loss
        low, high = axes.get_xlim()
        assert {tick for tick in axes.get_xticks() if low <= tick <= high} == {1, 2, 3}


def test_models_stand_in_the_order_of_the_first_score():
    table = _scores()
    first = table[table["score"] == "accuracy"].sort_values("value", ascending=False)
    drawn = score_figures.score_intervals(table)
    assert [tick.get_text() for tick in drawn.axes[0].get_yticklabels()] == first["model"].tolist()


def test_a_large_log_loss_leaves_the_other_scores_their_room():
    panels = score_figures.score_intervals(_many_scores()).axes
    assert {panel.get_xlim() for panel in panels[:5]} == {(0, panels[0].get_xlim()[1])}
    assert 0.8 < panels[0].get_xlim()[1] < 1
    assert panels[5].get_xlim()[0] == 0 and panels[5].get_xlim()[1] > 28
    assert panels[5].get_xlabel().endswith("less is better")


def test_where_less_is_better_the_least_stands_on_top():
    table = _many_scores().query("score == 'log_loss'")
    drawn = score_figures.score_intervals(table)
    expected = table.sort_values("value")["model"].tolist()
    assert [tick.get_text() for tick in drawn.axes[0].get_yticklabels()] == expected
    ends = table["value"].min(), table["value"].max()
    assert drawn._suptitle.get_text() == "log loss: {:.2f} to {:.2f}".format(*ends)


def test_intervals_that_hold_zero_are_hollow():
    table = pd.DataFrame({"model": ["a", "b", "c"], "difference": [-0.2, 0.1, 0.02],
                          "low": [-0.3, 0.05, -0.1], "high": [-0.1, 0.2, 0.1]})
    drawn = score_figures.differences(table, "d")
    assert [tick.get_text() for tick in drawn.axes[0].get_yticklabels()] == ["b", "c", "a"]
    faces = drawn.axes[0].collections[-1].get_facecolors()[:, :3].tolist()
    blue = list(to_rgb(figure_style.OKABE_ITO["blue"]))
    assert faces == [blue, [1, 1, 1], blue]
    assert drawn._suptitle.get_text() == "2 of 3 differ clearly from d"


def test_reliability_weighs_bins_by_their_songs():
    rows = pd.DataFrame({"model": ["a", "a", "b"], "confidence": [0.5, 0.9, 0.6],
                         "accuracy": [0.5, 0.5, 0.6], "songs": [30, 10, 5]})
    drawn = score_figures.reliability(rows)
    assert drawn._suptitle.get_text() == "Mean distance from the diagonal: 0.00 (b) to 0.10 (a)"
    large, small = drawn.axes[0].collections[0].get_sizes()
    assert large == pytest.approx(3 * small)


def test_bars_of_a_waterfall_join_and_their_dots_say_their_kind():
    steps = _waterfall()
    axes = score_figures.waterfall(steps).axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert ends == pytest.approx(steps["value"].tolist())
    assert [bar.get_x() for bar in axes.patches][1:] == pytest.approx(ends[:-1])
    dots = next(c for c in axes.collections if len(c.get_offsets()) == len(steps))
    white = [face[:3].tolist() == [1, 1, 1] for face in dots.get_facecolors()]
    assert white == (steps["kind"] == "measured").tolist()


def test_a_confusion_matrix_shows_shares_of_the_row_or_songs():
    matrix = pd.DataFrame([[1500, 500], [6, 4]], index=["Rock", "Punk"], columns=["Rock", "Punk"])
    texts = {
        show: [text.get_text() for text in score_figures.confusion(matrix, show=show).axes[0].texts]
        for show in score_figures._CONFUSION
    }
    assert texts == {"share": ["75", "25", "60", "40"], "count": ["1,500", "500", "6", "4"]}


def test_layers_of_a_diagram_never_share_a_place():
    inputs = {
        "a": [],
        "b": [],
        "left": ["a"],
        "right": ["a"],
        "other": ["b"],
        "sum": ["left", "right", "other", "a"],
    }
    places = models._layer_places(inputs)
    for (x0, row0), (x1, row1) in itertools.combinations(places.values(), 2):
        assert row0 != row1 or abs(x0 - x1) >= 1
    assert all(places[layer][1] > places[source][1] for layer in inputs for source in inputs[layer])


@pytest.mark.parametrize("name", ["baseline", "cnn", "lstm"])
def test_diagram_of_each_model_of_the_report(name):
    from msd_genre.models import networks

    table = networks.layer_table(networks.build_model(name, 18))
    drawn = models.model_diagram(table, name)
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert set(table["layer"]) <= set(texts)
    box, (width, height) = drawn.get_tightbbox(), drawn.get_size_inches()
    assert width == figure_style.WIDTH_IN and box.x0 >= 0 and box.x1 <= width and box.y1 <= height


# Bad input


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: songs.funnel(pd.DataFrame({"step": ["a"]})), "no column kept.*found step"),
        (lambda: songs.funnel(_steps().iloc[:0]), "no rows"),
        (lambda: songs.genre_histogram(pd.Series(dtype=int)), "no songs are counted"),
        (lambda: songs.song_heatmaps({}), "no songs"),
        (lambda: songs.segment_counts([]), "no songs"),
        (lambda: songs.segment_lengths([0.0]), "expected seconds"),
        (
            lambda: models.model_diagram(_layers().iloc[1:]),
            "layers read from chroma, .*its layers are timbre",
        ),
        (lambda: score_figures.confusion(_matrix() * 0), "counts no songs"),
        (
            lambda: score_figures.confusion(_matrix(), show="songs"),
            "'songs', not one of share, count",
        ),
        (lambda: score_figures.differences(_scores(), "cnn"), "no column difference"),
        (lambda: score_figures.reliability(_reliability().iloc[:0]), "no rows"),
        (
            lambda: score_figures.waterfall(_waterfall().assign(kind="guessed")),
            "kind 'guessed', not one",
        ),
        (
            lambda: models.learning_curves(_history("cnn", 2), pd.DataFrame({"epoch": [1]})),
            "published",
        ),
        (
            lambda: table_figures._markdown_table(_steps(), {"keptt": "d"}),
            "no column keptt.*found step, kept",
        ),
    ],
)
def test_bad_input_is_named(draw, message):
    with pytest.raises(figure_style.FigureError, match=message):
        draw()
    assert plt.get_fignums() == []


def test_labels_of_narrow_shares_do_not_run_into_each_other():
    found = pd.DataFrame({
        "found": ["stem", "reverse", ""], "words": [733, 202, 65], "tokens": [909, 42, 49],
    })  # fmt: skip
    figure = songs.lyric_coverage(found)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 4  # 90.9 of the words sung; 73.3, 20.2 and 6.5 of the stems
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]


# Tables


def test_numbers_in_a_table():
    table = pd.DataFrame(
        {
            "year": pd.array([1999, None], dtype="Int64"),
            "plays": [1234567, 8],
            "share": [0.52063, np.nan],
            "seconds": [1234.56, 2.5],
            "listeners": [4000.0, np.nan],
            "kept": [True, False],
            "value": [12345, "as is"],
        }
    )
    lines = table_figures._markdown_table(table, {"seconds": ",.1f"}).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "1999",
        "1,234,567",
        "0.521",
        "1,234.6",
        "4,000",
        "yes",
        "12,345",
    ]
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == [
        "–",
        "8",
        "–",
        "2.5",
        "–",
        "no",
        "as is",
    ]
    right = [cell.endswith(":") for cell in lines[1].strip("|").split("|")]
    assert right == [True, True, True, True, True, False, False]


NASTY = [
    "a | b",
    "$ave $ome",
    "*star* _line_ `code`",
    "<3 & <b>",
    "@home, me@home",
    r"back\slash\|",
    "Pop_Rock",
    "~~gone~~ 2^10^",
    "two\nlines",
]


def test_text_of_a_cell_comes_out_of_pandoc_as_it_went_in():
    page = pypandoc.convert_text(
        table_figures._markdown_table(pd.DataFrame({"title": NASTY})), "html", format="markdown"
    )
    cells = [
        re.sub(r"\s+", " ", html.unescape(cell))
        for cell in re.findall(r"<td[^>]*>(.*?)</td>", page, re.S)
    ]
    assert cells == [text.replace("\n", " ") for text in NASTY]


def test_columns_of_markdown_stay_markdown():
    table = pd.DataFrame({"term": ["**bold** | $x$"], "n": [1]})
    assert r"**bold** \| $x$" in table_figures._markdown_table(table, markdown=["term"])


def test_names_of_code_become_names_for_readers():
    table = pd.DataFrame({
        "model": ["as_coded", None], "score": ["macro_f1", "of_our_own"], "title": ["a_b", "c"],
        "learning_rate": [0.001, 0.01], "low": [0.1, 0.2],
    })  # fmt: skip
    head, _, first, second = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table_figures._markdown_table(table, {"learning_rate": "g"}).splitlines()
    )
    assert head == ["model", "score", "title", "learning rate", "95 % from"]
    assert first == ["as coded", "macro-F1", "a_b", "0.001", "0.100"]
    assert second == ["–", "of our own", "c", "0.01", "0.200"]


# In a notebook


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    cells = [
        "import pandas as pd\nfrom msd_genre.figures import songs, style, tables\n"
        "steps = pd.DataFrame({'step': ['found', 'kept'], 'kept': [1200, 900]})",
        "style.show(songs.funnel(steps), 'Most *tracks* remain.', 'Two bars.', dpi=40)",
        "tables.show_table(steps, 'Two steps.')",
        "songs.funnel(steps)",
        "fig = songs.funnel(steps)",
        "style.show(fig, 'No alt text.', ' ')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=120,
        allow_errors=True,
        resources={"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}},
    )
    written = nbformat.writes(client.execute())
    return [cell.outputs for cell in nbformat.reads(written, as_version=4).cells]


def test_show_writes_one_picture_and_its_caption(outputs):
    picture, caption = outputs[1]
    assert picture["data"]["image/png"].startswith("iVBOR")
    assert picture["metadata"]["image/png"]["alt"] == picture["data"]["text/plain"] == "Two bars."
    assert caption["data"]["text/markdown"] == "Most *tracks* remain."
    assert caption["metadata"]["msd_genre"] == {
        "role": "caption",
        "text": "Most *tracks* remain.",
        "alt": "Two bars.",
    }


def test_a_picture_is_sharp_small_and_of_the_same_plain_colours():
    fig = FIGURES["embedding_map"]()
    data, width = figure_style._png(fig, 2 * figure_style._SCREEN_DPI)
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "P" and picture.width == 2 * width
    in_full = io.BytesIO()
    fig.savefig(in_full, format="png", dpi=2 * figure_style._SCREEN_DPI)
    assert len(data) < len(in_full.getvalue())
    whole = Image.open(in_full).convert("RGB").getcolors(1_000_000)
    plain = {colour for _, colour in sorted(whole)[-6:]}  # those of most pixels
    assert plain <= {colour for _, colour in picture.convert("RGB").getcolors(256)}
    assert (
        figure_style._png(fig, 48)[1] == Image.open(io.BytesIO(figure_style._png(fig, 48)[0])).width
    )


def test_show_table_writes_markdown_and_its_caption(outputs):
    table, caption = outputs[2]
    assert "| 1,200 |" in table["data"]["text/markdown"].replace("  ", " ")
    assert caption["metadata"]["msd_genre"] == {"role": "caption", "text": "Two steps.", "alt": ""}
    assert not any("text/html" in output["data"] for output in (table, caption))


def test_a_figure_is_shown_once_or_not_at_all(outputs):
    assert [len(cell) for cell in outputs[3:5]] == [1, 0]
    assert "image/png" in outputs[3][0]["data"]


def test_a_figure_without_alt_text_is_refused(outputs):
    assert outputs[5][0]["ename"] == "FigureError"
    assert "alt text" in outputs[5][0]["evalue"]


def test_captions_outlive_the_cleaning_of_notebooks():
    folder = Path(__file__).parents[2] / "nbs" / "api" / "figures"
    pages = [nbformat.read(path, as_version=4) for path in sorted(folder.glob("*.ipynb"))]
    shown = [cell.outputs for page in pages for cell in page.cells
             if cell.cell_type == "code" and len(cell.outputs) == 2]  # fmt: skip
    assert len(shown) >= 13
    assert all(cell[1]["metadata"]["msd_genre"]["role"] == "caption" for cell in shown)


def test_pictures_are_the_same_bytes_each_time(tmp_path):
    for name in ("one", "two"):
        FIGURES["embedding_map"]().savefig(
            tmp_path / name, format="png", dpi=40, metadata={"Software": None}
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_importing_figures_loads_no_models_and_no_readers():
    code = (
        "import sys, msd_genre.figures; print(sorted({'tensorflow', 'keras', 'h5py', 'gensim', "
        "'msd_genre.songs', 'msd_genre.published', 'IPython'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_resampling_draws_each_genre_once_whatever_else_the_table_holds():
    genres = pd.DataFrame({"genre": ["Rock", "Jazz"], "songs": [500, 30],
                           "train_songs": [320, 12], "train_rows": [160, 60]})
    axes = songs.resampling(genres).axes[0]
    widths = sorted(bar.get_width() for group in axes.containers for bar in group)
    assert widths == [12, 60, 160, 320]
    assert not axes.lines, "error bars: more than one value a bar"


def test_another_score_is_no_step_of_the_waterfall():
    """Its bar has no length, and the title ends with the step before it."""
    steps = _waterfall()
    steps["kind"] = ["trained", *["measured"] * 3, "another score"]
    drawn = score_figures.waterfall(steps)
    widths = [bar.get_width() for bar in drawn.axes[0].patches]
    assert widths[-1] == 0 and all(widths[1:-1])
    assert drawn._suptitle.get_text().startswith("From 0.55 to 0.38 accuracy")
    assert "or the score named" in drawn.axes[0].get_xlabel()
