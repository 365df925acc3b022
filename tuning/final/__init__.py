"""The final script's work: which configs are trained how often, how they do on the test set, the
folder it leaves.
"""
