"""Reports: what is to be said, as plain values; plots of it; one HTML file that opens anywhere."""
