"""The pages of the dashboard, and what they share. `dashboard.py` puts them together.

Texts from the database are untrusted. They go where they cannot be markup: `st.text`, tables, options of
a filter, and figures, for which `fraudstream.views` escapes them.
"""
