"""Faces in frames: detection (MTCNN), tracks of two people, shot cuts and crop boxes. What stage ``face`` is made of."""
