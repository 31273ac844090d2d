"""Install the package into empty environments, plain and with each extra; use one thing of each.

    python .ci/extras.py            all of them, 10 minutes
    python .ci/extras.py audio      one of them

The package is installed from a wheel, with the versions of requirements.lock; it has none for the
extras `cloud` and `spark`, which are resolved anew.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = "core"  # the package without an extra
UNLOCKED = ("cloud", "spark")

# What each environment must be able to do. CORE also asks for an extra that it does not have.
USES = {
    CORE: """
from click.testing import CliRunner
from pathlib import Path
from msd_genre import cli
from msd_genre.corpus import catalog, splits
from msd_genre.evaluation import comparison, metrics
from msd_genre.files import hdf5, hdf5_bytes, song_file, song_schema, song_sources
from msd_genre.workspace import runs
Path("mine.yaml").write_text("data:\\n")
for words in "demo write songs --songs 60", "build mine.yaml --data songs":
    done = CliRunner().invoke(cli.main, words.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
kept = catalog.kept(runs.open_run("runs/mine").read("catalog.parquet"))
split = splits.make_split(kept, "artist", 1, min_songs=1, allow_absent=True)
assert set(split["part"]) == {"train", "validation", "test"}
try:
    import msd_genre.models.networks
except ImportError as error:
    assert "msd_genre[networks]" in str(error), error
else:
    raise AssertionError("networks without their extra")
""",
    "lyrics": """
from msd_genre.datasets import word_vectors
assert word_vectors.load_vectors("glove-6b-50d")["music"].shape == (50,)
""",
    "networks": """
import numpy as np
from msd_genre.models import networks
network = networks.build_model("cnn", 3, n_frames=60, lyric_dim=4)
series = np.zeros((2, 60, 12))
songs = {"chroma": series, "timbre": series, "lyrics": np.zeros((2, 4))}
assert network.predict(songs, verbose=0).shape == (2, 3)
""",
    "search": """
import numpy as np, optuna
from msd_genre.inference import index as index_module
index = index_module.build_index(np.eye(5))
assert index_module.nearest(index, np.eye(5), 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]
""",
    "listeners": """
import numpy as np
from scipy import sparse
from msd_genre.analysis import listeners
counts = sparse.random_array((40, 30), density=0.3, rng=np.random.default_rng(1), format="csr")
factors = listeners.als(counts, rank=4, iterations=2)
assert factors.songs.shape == (30, 4)
""",
    "figures": """
import pandas as pd
from msd_genre.figures import songs, style
style.set_style()
assert songs.genre_histogram(pd.Series({"Rock": 3, "Jazz": 1})).axes
""",
    "audio": """
import numpy as np, soundfile
from msd_genre.inference import audio
t = np.arange(22050 * 6) / 22050
soundfile.write("tone.wav", np.sin(2 * np.pi * 440 * t) * (t % 0.5 < 0.25), 22050)
assert audio.analyse_sound("tone.wav").segments.chroma.shape[1] == 12
""",
    "cluster": """
from pathlib import Path
from click.testing import CliRunner
from msd_genre import cli
if __name__ == "__main__":
    Path("mine.yaml").write_text("data:\\n")
    for words in ("demo write songs --songs 60", "build mine.yaml --data songs --workers 2"):
        done = CliRunner().invoke(cli.main, words.split(), catch_exceptions=False)
        assert done.exit_code == 0, done.output
""",
    "cloud": """
import fsspec
for protocol in ("http", "s3", "gs"):
    assert fsspec.get_filesystem_class(protocol)
""",
    "spark": "import pyspark",
    "report": """
import nbformat, papermill
from msd_genre.report import chapters, preview, site
from msd_genre.workspace import costs
cell = nbformat.v4.new_code_cell("from msd_genre.models import training\\nprint(1 + 1)")
nbformat.write(nbformat.v4.new_notebook(cells=[cell]), "page.ipynb")
done = papermill.execute_notebook("page.ipynb", None, kernel_name="python3", progress_bar=False)
assert done.cells[0].outputs[-1].text == "2\\n"
""",
}


def check(extra, wheel, folder):
    """Install the wheel with an extra into an empty environment, and run its use there."""
    print(f"{extra}: installing", flush=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra != CORE else str(wheel)
    lock = [] if extra in UNLOCKED else ["--constraint", ROOT / "requirements.lock"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                    *lock, wanted], check=True)  # fmt: skip
    subprocess.run([python, "-m", "pip", "check", "--quiet"], check=True)
    (folder / "use.py").write_text(USES[extra])
    subprocess.run([python, "-I", "-W", "ignore", "use.py"], cwd=folder, check=True)
    print(f"{extra}: installed and used", flush=True)


def main(chosen):
    """Check these extras, or all and the package without any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    assert set(USES) == {CORE, *declared} - {"dev"}, "each extra has one use in USES"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir",
                        folder, ROOT], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        for extra in chosen or USES:
            with tempfile.TemporaryDirectory() as empty:
                check(extra, wheel, Path(empty))


if __name__ == "__main__":
    main(sys.argv[1:])
