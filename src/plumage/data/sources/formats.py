"""The image formats that Plumage reads, and the suffixes of their files."""

SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "AVIF": {".avif"},
    "BMP": {".bmp"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm"},
}
FORMATS = tuple(format for format in SUFFIXES if format != "MPO")  # Pillow opens MPO as JPEG
