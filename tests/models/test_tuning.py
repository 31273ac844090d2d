"Search: what is tried, what is kept, and that the test songs are not looked at."

import numpy as np
import pandas as pd
import pytest
from test_training import SMALL, make_run

from msd_genre.models import tuning
from msd_genre.models.inputs import Plan, TrainingError, load_songs
from msd_genre.models.tuning import SearchError, best_setting, grid, with_choices

SPACE = {"learning_rate": (1e-3, 1e-1), "embedding_units": [4, 8]}
PLAN = Plan("baseline", epochs=4, batch_size=16, sizes={"dense_units": SMALL["dense_units"]})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("search") / "run")


@pytest.fixture(scope="module")
def trials(run):
    return tuning.search(run, PLAN, SPACE, n_trials=5)


def test_the_grid_is_the_write_ups():
    assert len(grid()) == 24 and len({str(one) for one in grid()}) == 24
    assert all(one["sizes"]["filters"][2] == 256 for one in grid())
    with pytest.raises(SearchError, match="no epochs; it has batch_size, learning_rate, filters"):
        grid(epochs=[3])


def test_a_row_a_trial_within_the_space(trials):
    assert trials["trial"].tolist() == list(range(5))
    assert trials["learning_rate"].between(*SPACE["learning_rate"]).all()
    assert trials["macro_f1"].between(0, 1).all() and (trials["error"] == "").all()
    assert set(trials["epochs_done"]) <= {1, 2, 4}
    assert (trials["epochs_done"][~trials["stopped"]] == 4).all()


def test_an_interrupted_search_goes_on_and_ends_with_the_same_table(tmp_path, trials, monkeypatch):
    run, known, left = make_run(tmp_path / "run"), tuning._try, [2]

    def interrupted(*args):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return known(*args)

    monkeypatch.setattr(tuning, "_try", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuning.search(run, PLAN, SPACE, n_trials=5)
    left[0] = 3
    again = tuning.search(run, PLAN, SPACE, n_trials=5)
    assert left[0] == 0  # two trials were not done twice
    pd.testing.assert_frame_equal(again.drop(columns="trial"), trials.drop(columns="trial"))


def test_the_test_songs_are_not_looked_at(tmp_path, trials, monkeypatch):
    def without_test(run, plan):
        songs = load_songs(run, plan)
        for array in songs.inputs.values():
            array[np.unique(songs.rows["test"])] = np.nan
        return songs

    monkeypatch.setattr(tuning, "load_songs", without_test)
    again = tuning.search(make_run(tmp_path / "run"), PLAN, SPACE, n_trials=5)
    pd.testing.assert_frame_equal(again, trials)


def test_the_best_setting_is_one_that_was_not_stopped():
    trials = pd.DataFrame({"rate": [0.1, 0.2, 0.3], "macro_f1": [0.4, 0.9, 0.5],
                           "stopped": [False, True, False]})  # fmt: skip
    best = best_setting(trials, {"rate": (0.1, 0.3)})
    assert best == {"rate": 0.3} and type(best["rate"]) is float
    plan = with_choices(Plan("cnn"), {"learning_rate": 0.3, "l2": 0.5})
    assert plan.learning_rate == 0.3 and plan.sizes == {"l2": 0.5}


def test_a_trial_that_diverges_counts_nothing_and_says_why(run, monkeypatch):
    def diverging(*args, **choices):
        raise TrainingError("the loss is nan in epoch 1, batch 1")

    monkeypatch.setattr(tuning, "fit", diverging)
    plan = Plan("baseline", epochs=2, batch_size=16, tag="diverges")
    trials = tuning.search(run, plan, {"learning_rate": (1e-3, 1e-2)}, n_trials=2)
    assert (trials["macro_f1"] == 0).all() and trials["error"].str.contains("loss is nan").all()


@pytest.mark.parametrize(
    ("space", "n", "message"),
    [
        ({}, 3, "3 trials over 0 settings"),
        (SPACE, 0, "0 trials over 2 settings"),
        ({"l2": (0.1, 0.1)}, 1, r"l2: \(0.1, 0.1\) is neither \(low, high\) nor a list"),
        ({"l2": []}, 1, r"l2: \[\] is neither"),
    ],
)
def test_a_space_that_is_none_is_named(run, space, n, message):
    with pytest.raises(SearchError, match=message):
        tuning.search(run, PLAN, space, n)
