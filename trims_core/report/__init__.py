"""From artifacts to something a person can look at: results.json, table.md, figures and one HTML page.

cells           the sweep's cells, read and checked (nothing missing, same problems everywhere)
levels          the tokens per forward at which methods can be compared
resampling      every number under resamples of the problems, seed by seed
intervals       the interval over problems, and the one over seeds and problems
t_distribution  Student's t
multiplicity    Holm over a table's contrasts, McNemar per seed and combined
comparison      curves per method, headline numbers, differences between methods
verdicts        one word and one sentence on a difference
examples        answers of the corpus as pieces of text with their bucket; decoded answers side by side
histogram       the difficulty histogram and the bucket edges
losses          loss curves
caveats         sentences about where the numbers are weak
results         everything the report shows, as one JSON-able dict
figures         curve, difficulty histogram and losses as PNG and SVG
text_table      a table as rows of text
contrast_tables methods, differences, McNemar
tables          the other tables, and table.md
page            the self-contained HTML page
stage           the stage `report`
"""
