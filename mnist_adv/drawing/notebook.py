"""What notebooks show of a result: its words with its picture, and its numbers as a data frame."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from mnist_adv.drawing.pairs import Picture


def as_html(words: str, picture: Picture | None) -> str:
    """Put a line above a picture.

    Args:
        words: the line.
        picture: drawn into the HTML itself; None: there is none.

    Returns:
        HTML.
    """
    line = f"<div><code>{html.escape(words)}</code></div>"
    if picture is None:
        return line
    content = base64.b64encode(picture.png()).decode()
    return (
        f'{line}<img alt="{html.escape(words)}" style="max-width: 100%" '
        f'src="data:image/png;base64,{content}">'
    )


def data_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Make a data frame.

    Args:
        columns: name -> `[n]`, or one value for all rows.

    Returns:
        The data frame; `[n]` rows.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "a data frame needs one more package: pip install 'mnist_adv[notebook]'"
        ) from error
    count = max(np.size(values) for values in columns.values())
    return pd.DataFrame({
        name: np.broadcast_to(values, (count,)) for name, values in columns.items()
    })
