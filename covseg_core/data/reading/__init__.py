"""Files into volumes: NIfTI, DICOM and pictures, in archives or not, into (Z, Y, X) arrays with their geometry."""
