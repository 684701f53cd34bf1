"""ControlNets whose images, strengths and networks follow the frames of a clip."""
