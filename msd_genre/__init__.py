__version__ = "0.1.0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inference.new_song import predict as predict


def __getattr__(name: str) -> object:
    "`msd_genre.predict`, loaded when it is asked for: importing the package stays instant."
    if name == "predict":
        from .inference.new_song import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
