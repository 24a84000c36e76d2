"""J and F, mIoU, PCK as sufficient statistics; intervals and paired tests. Arrays in, numbers out, no files."""
