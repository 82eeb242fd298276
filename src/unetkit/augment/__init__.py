"""Augmentation: one draw, one warp, one intensity pass, for a whole batch."""
