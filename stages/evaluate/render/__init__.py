"""From predicted coefficients to pictures: the warped reference (`mesh_warp`) and PIRenderer (`pirender`)."""
