"""From artifacts to something a person can look at: results.json, tables, figures and one HTML page.

cells            the sweep's cells, read and checked (nothing missing, same problems everywhere)
levels           the tokens per forward at which methods can be compared
resampling       every number under resamples of the problems, seed by seed
intervals        the interval over problems, and the one over seeds and problems
t_distribution   Student's t
multiplicity     Holm over a table's contrasts, McNemar per seed and combined
comparison       curves per method, headline numbers, differences between methods
verdicts         one word and one sentence on a difference
examples         answers of the corpus as pieces of text with their bucket; decoded answers side by side
histogram        the difficulty histogram and the bucket edges
losses           loss curves
caveats          sentences about where the numbers are weak
results          everything the report shows, as one JSON-able dict
player           what the page plays: the same problems decoded by every method
token_difficulty the teacher's difficulty of their tokens
appearance       colours and markers, of figures and of the page
figure_style     how figures look
figures          curve, difficulty histogram and losses as PNG and SVG
analysis_figures trajectories, order and calibration
text_table       a table as rows of text
contrast_tables  methods, differences, McNemar
tables           the other tables, table.md and CSV
headline         the verdict in three sentences
alternatives     figures in words
shown            sentences, tables and looks, ready for the page
page             the self-contained HTML page, of web/
files            all files of a report
served           the page and the samples of every problem, for a server
stage            the stage `report`
"""
