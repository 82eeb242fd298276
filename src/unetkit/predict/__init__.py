"""From a trained network to masks of images of any size: `run.predict` for files, `predictor.Predictor` for arrays."""
