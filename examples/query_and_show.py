"""A notebook as a script: query, retrieve into memory, show the image.  `# %%` begins a cell."""

# %% an archive, to have one; with your own, its address stands below instead
import pydicom
from pydicom.data import get_testdata_file

import dulcet

archive = dulcet.Node("ARCHIVE")
held = [pydicom.dcmread(get_testdata_file(name, download=False)) for name in ("CT_small.dcm", "MR_small.dcm")]
KEYS = ("PatientName", "PatientID", "StudyInstanceUID", "Modality", "StudyDate")


@archive.on_find
def find(request):
    for image in held:
        answer = pydicom.Dataset()
        for key in KEYS:
            setattr(answer, key, image.get(key, ""))
        yield answer


@archive.on_get
def get(request):
    return [image for image in held if image.StudyInstanceUID == request.identifier.StudyInstanceUID]


serving = archive.threads()

# %% query
association = dulcet.associate(serving.address)
studies = list(association.find(level="STUDY", PatientName="*", Modality="", StudyDate=""))
for study in studies:
    print(study.PatientName, study.Modality, study.StudyDate)

# %% retrieve into memory: a function in place of a folder
images: list[pydicom.Dataset] = []


def take(request):
    images.append(request.dataset())
    request.respond()


association.get(studies[0], to=take).check()
association.release()
serving.stop()

# %% show; in a notebook: matplotlib's imshow(pixels, cmap="gray")
pixels = images[0].pixel_array
print(images[0].Modality, pixels.shape, pixels.dtype)
low, high = int(pixels.min()), int(pixels.max())
for row in pixels[::12, ::6]:
    print("".join(" .:-=+*#%@"[(int(value) - low) * 9 // (high - low)] for value in row))
