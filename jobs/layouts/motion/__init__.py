"""What layouts of motion share: whose coefficients they mean, and clips on another clock."""
