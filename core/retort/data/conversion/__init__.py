"""Convert COCO JSON and Pascal VOC XML into YOLO layout."""
