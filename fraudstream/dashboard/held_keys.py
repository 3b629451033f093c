"""A key that decides counts once, however long it is held: else a held F decides alert after alert, unread.

A browser repeats a held key, and Streamlit takes each repetition for a press. So the repetitions are stopped
in the browser, before Streamlit sees them. Keys that only look, and text fields, go on as usual.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

_SCRIPT = """<script>
(() => {
  if (window.heldKeysCountOnce) return;
  window.heldKeysCountOnce = true;
  const keys = KEYS;
  window.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, textarea");
    if (event.repeat && !typing && keys.includes(event.key.toUpperCase())) event.stopImmediatePropagation();
  }, true);
})();
</script>"""


def count_held_keys_once(keys: Sequence[str]) -> None:
    """Of these keys, capital letters, in this browser page until it is loaded anew; draws nothing."""
    st.html(_SCRIPT.replace("KEYS", json.dumps(list(keys))), unsafe_allow_javascript=True)
