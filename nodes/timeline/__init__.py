"""What a clip is made of along time, pure: numbers by frame, context windows, the noise of long clips."""
