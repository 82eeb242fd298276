"""What follows the network: areas removed, holes filled, objects told apart, for images of any size."""

from unetkit.predict.post.clean import postprocessed

__all__ = ["postprocessed"]
