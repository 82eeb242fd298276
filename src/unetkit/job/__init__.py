"""The main job: a folder of images and masks becomes a finished run folder. Each part is a generator of events."""
