"""The layouts in which ViCo was published: reading them into manifests, and writing data sets in them."""
