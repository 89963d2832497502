"""From artifacts to something a person can look at: results.json, table.md, figures and one HTML page.

cells        the sweep's cells, read and checked (nothing missing, same problems everywhere)
comparison   curves per method, bootstrap over problems, differences between methods, verdicts
examples     answers of the corpus as pieces of text with their bucket; decoded answers side by side
histogram    the difficulty histogram and the bucket edges
losses       loss curves
caveats      sentences about where the numbers are weak
results      everything the report shows, as one JSON-able dict
figures      curve, difficulty histogram and losses as PNG and SVG
tables       table.md
page         the self-contained HTML page
stage        the stage `report`
"""
