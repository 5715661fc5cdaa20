"""How each column comes to be: one file a stage; the packages beside them hold what one stage is made of."""
