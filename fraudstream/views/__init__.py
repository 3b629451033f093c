"""What the dashboard shows, as text, tables and figures; nothing of Streamlit, SQL or the clock.

Names come from the outside: figures get them escaped (Plotly reads a subset of HTML in labels), tables
hold them as they are. A missing name is None or "" and shown as "(missing)". Times are local time in the
setting TZ, unless said otherwise.
"""
