"""What the stage ``face`` is made of: detection (MTCNN), tracks of two people, shot cuts, crop squares."""
