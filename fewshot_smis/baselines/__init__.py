"""The systems that synthesis from few labels is measured against, trained on pairs."""
