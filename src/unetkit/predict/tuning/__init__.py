"""What decoding held-out predictions teach: from many ways to decide, the one that scores best; else none."""

from unetkit.predict.tuning.tune import tune_decoding

__all__ = ["tune_decoding"]
