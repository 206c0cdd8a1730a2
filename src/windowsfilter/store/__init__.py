"""The store as users see it: images, layers and scratches under one root folder."""
