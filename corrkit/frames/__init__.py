"""Image folders and video files behind one interface; resizing, normalising, prefetching."""
