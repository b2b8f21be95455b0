"""The page itself: `make dashboard`, or `streamlit run dashboard/app.py`.

It reads the database at DATABASE_URL and asks Kafka for the consumers' lag; it changes neither.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

# `streamlit run` looks for modules beside this file, not beside its folder.
ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from car_classifier.errors import CarClassifierError
from dashboard.overview import show_head, show_overview
from dashboard.services import confidence_threshold, lag_monitor, plain, results
from dashboard.tables import show_tables
from dashboard.windows import WINDOWS


def main() -> None:
    """Draw the page; what changes by itself is drawn again every few seconds."""
    st.set_page_config("Car classifier", layout="wide")
    st.html(Path(__file__).with_name("style.css"))
    try:
        results()
        lag_monitor()
        threshold = confidence_threshold()
    except CarClassifierError as error:
        st.error(plain(str(error)))
        return

    left, right = st.columns([3, 2], vertical_alignment="center")
    labels = {window.label: window for window in WINDOWS}
    chosen = right.segmented_control(
        "Time", labels, default=WINDOWS[1].label, label_visibility="collapsed", width="stretch"
    )
    window = labels[chosen or WINDOWS[1].label]  # none is chosen after a click on the chosen one
    again = st.fragment(run_every=window.refresh)
    with left:
        again(show_head)()
    again(show_overview)(window, threshold)
    again(show_tables)(window)


if __name__ == "__main__":
    main()
