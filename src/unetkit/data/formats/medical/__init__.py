"""NIfTI, NRRD, MetaImage and DICOM: volumes that lie somewhere in a patient."""
