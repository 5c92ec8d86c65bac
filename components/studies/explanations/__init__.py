"""EAC, LIME and heatmaps: which region decided?"""
