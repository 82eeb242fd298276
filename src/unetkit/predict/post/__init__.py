"""What follows the network: areas removed, holes filled, objects told apart, for images of any size."""

from unetkit.predict.post.clean import cleaned_array, plain_scores, postprocessed

__all__ = ["cleaned_array", "plain_scores", "postprocessed"]
