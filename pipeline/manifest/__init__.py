"""The two files that describe a data set to build, its manifest (TOML) and its clips (CSV), and how clips are split."""
