"""The generated data set or model, written once into the work folder."""

import dataclasses
import shutil
from pathlib import Path

from components.download.config import FolderSource, TinyDataSource, TinyModelSource
from components.download.sources.folder import list_folder
from components.download.transfer.remote_file import Listing
from omnistage.events import Events


def list_tiny(source: TinyDataSource | TinyModelSource, work: Path, events: Events) -> Listing:
    """Generate the files and list them.

    What an earlier, killed attempt has generated is generated again: that takes seconds.
    """
    folder = work / "tiny" / (source.target or "top")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Imported here: the generators need numpy, PyAV and, for the model, torch.
    if isinstance(source, TinyDataSource):
        from components.download.tiny.sets import KINDS

        kind = KINDS[source.kind]
        kind.write(folder, kind.settings(**source.settings), events)
    else:
        from components.download.tiny.model import write_model
        from components.download.tiny.settings import TinyModelSettings

        write_model(folder, TinyModelSettings(**source.settings), events)
    listing = list_folder(FolderSource(type="folder", path=str(folder)))
    files = [dataclasses.replace(f, url=f"tiny:{f.path}") for f in listing.files]
    return Listing(files, {"settings": source.settings})
