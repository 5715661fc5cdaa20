"""What the two layouts in which ViCo was published share: clips and their checks, clip ids, features, the manifest."""
