"""Where the demo's input comes from: the source archive of vaderSentiment 3.3.2, which `make demo-data` downloads.

Nothing of it is part of this repository or package. It is read from the archive as its authors published it, and only
if it is that very archive.
"""

import hashlib
import io
import tarfile
from pathlib import Path

from overnight.cli.demo.snippets import Snippet, parse
from overnight.errors import ConfigurationError

NAME = "vaderSentiment-3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
"""The same as in requirements/demo-data.txt."""

_RATED = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
_CLASSIFIER = (
    "LICENSE.txt",
    "vaderSentiment/vaderSentiment.py",
    "vaderSentiment/vader_lexicon.txt",
    "vaderSentiment/emoji_utf8_lexicon.txt",
)


class Archive:
    """The downloaded archive.

    Raises:
        ConfigurationError: it is not there, or is another one.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{NAME}.tar.gz"
        if not self._path.is_file():
            raise ConfigurationError(
                f"The demo's input is not at {self._path}. Run `make demo-data`, or, without the repository: pip "
                f"download --no-deps --no-binary :all: vaderSentiment==3.3.2 --dest {folder}"
            )
        self._content = self._path.read_bytes()
        if hashlib.sha256(self._content).hexdigest() != SHA256:
            raise ConfigurationError(f"{self._path} is not the archive that was published. Remove it and try again.")

    def snippets(self) -> list[Snippet]:
        """All rated snippets of Amazon reviews."""
        resources = _member(self._content, f"{NAME}/additional_resources/hutto_ICWSM_2014.tar.gz")
        return parse(_member(resources, _RATED).decode("utf-8"))

    def unpack_classifier(self, folder: Path) -> Path:
        """Write VADER's module, its lexicons and their licence into a folder; returns the module's path."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _CLASSIFIER:
            (folder / Path(name).name).write_bytes(_member(self._content, f"{NAME}/{name}"))
        return folder / "vaderSentiment.py"


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        member = opened.extractfile(name)
        assert member is not None, "the hash says that it is a file in there"
        return member.read()
