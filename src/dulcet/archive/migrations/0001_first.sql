-- The index of the archive.  Columns with a capital are DICOM attributes by keyword, decoded and without padding;
-- their twins `…_at` are the same dates in days and times in microseconds, for comparing.

CREATE TABLE patient (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,  -- Patient ID and issuer; without an ID the name as well
    PatientName TEXT, PatientID TEXT, IssuerOfPatientID TEXT,
    PatientBirthDate TEXT, PatientBirthDate_at INTEGER, PatientBirthTime TEXT, PatientBirthTime_at INTEGER,
    PatientSex TEXT, OtherPatientIDs TEXT, EthnicGroup TEXT, PatientComments TEXT,
    studies INTEGER NOT NULL DEFAULT 0, series INTEGER NOT NULL DEFAULT 0, instances INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX patient_by_id ON patient (PatientID);

CREATE TABLE study (
    id INTEGER PRIMARY KEY,
    patient INTEGER NOT NULL REFERENCES patient,
    StudyInstanceUID TEXT NOT NULL UNIQUE,
    -- what this study says of its patient; a level of its own is the table above
    PatientName TEXT, PatientID TEXT, IssuerOfPatientID TEXT,
    PatientBirthDate TEXT, PatientBirthDate_at INTEGER, PatientBirthTime TEXT, PatientBirthTime_at INTEGER,
    PatientSex TEXT, OtherPatientIDs TEXT, EthnicGroup TEXT, PatientComments TEXT,
    StudyDate TEXT, StudyDate_at INTEGER, StudyTime TEXT, StudyTime_at INTEGER,
    AccessionNumber TEXT, ReferringPhysicianName TEXT, TimezoneOffsetFromUTC TEXT, StudyDescription TEXT,
    NameOfPhysiciansReadingStudy TEXT, AdmittingDiagnosesDescription TEXT, PatientAge TEXT, PatientSize TEXT,
    PatientWeight TEXT, Occupation TEXT, AdditionalPatientHistory TEXT, StudyID TEXT,
    ModalitiesInStudy TEXT NOT NULL DEFAULT '', SOPClassesInStudy TEXT NOT NULL DEFAULT '',
    series INTEGER NOT NULL DEFAULT 0, instances INTEGER NOT NULL DEFAULT 0,
    changed REAL NOT NULL, stable INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX study_by_patient ON study (patient);
CREATE INDEX study_by_patient_id ON study (PatientID);
CREATE INDEX study_by_accession_number ON study (AccessionNumber);
CREATE INDEX study_by_date ON study (StudyDate_at);
CREATE INDEX study_unstable ON study (changed) WHERE stable = 0;

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES study,
    SeriesInstanceUID TEXT NOT NULL,
    SeriesDate TEXT, SeriesDate_at INTEGER, SeriesTime TEXT, SeriesTime_at INTEGER,
    Modality TEXT, Manufacturer TEXT, InstitutionName TEXT, StationName TEXT, SeriesDescription TEXT,
    InstitutionalDepartmentName TEXT, PerformingPhysicianName TEXT, OperatorsName TEXT, ManufacturerModelName TEXT,
    BodyPartExamined TEXT, ProtocolName TEXT, PatientPosition TEXT, SeriesNumber TEXT, FrameOfReferenceUID TEXT,
    Laterality TEXT,
    PerformedProcedureStepStartDate TEXT, PerformedProcedureStepStartDate_at INTEGER,
    PerformedProcedureStepStartTime TEXT, PerformedProcedureStepStartTime_at INTEGER,
    PerformedProcedureStepID TEXT, PerformedProcedureStepDescription TEXT,
    RequestAttributesSequence TEXT,  -- a JSON list of objects
    instances INTEGER NOT NULL DEFAULT 0,
    changed REAL NOT NULL, stable INTEGER NOT NULL DEFAULT 0,
    UNIQUE (study, SeriesInstanceUID)
);
CREATE INDEX series_by_uid ON series (SeriesInstanceUID);
CREATE INDEX series_unstable ON series (changed) WHERE stable = 0;

CREATE TABLE request (  -- the items of Request Attributes Sequence
    series INTEGER NOT NULL REFERENCES series,
    AccessionNumber TEXT, StudyInstanceUID TEXT, RequestedProcedureDescription TEXT,
    ScheduledProcedureStepDescription TEXT, ScheduledProcedureStepID TEXT, RequestedProcedureID TEXT
);
CREATE INDEX request_by_series ON request (series);
CREATE INDEX request_by_step ON request (ScheduledProcedureStepID);
CREATE INDEX request_by_procedure ON request (RequestedProcedureID);

CREATE TABLE person (  -- every component group of every person name, folded
    owner INTEGER NOT NULL,  -- id in patient, study or series, as the level of the tag says
    level INTEGER NOT NULL,  -- 0 patient, 1 study, 2 series
    tag INTEGER NOT NULL,
    representation INTEGER NOT NULL,  -- 0 alphabetic, 1 ideographic, 2 phonetic
    whole TEXT NOT NULL,
    family TEXT NOT NULL, given TEXT NOT NULL, middle TEXT NOT NULL, prefix TEXT NOT NULL, suffix TEXT NOT NULL
);
CREATE INDEX person_by_whole ON person (level, tag, whole);
CREATE INDEX person_by_family ON person (level, tag, family);

CREATE TABLE instance (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES series,
    SOPInstanceUID TEXT NOT NULL UNIQUE,
    SOPClassUID TEXT NOT NULL,
    ImageType TEXT, InstanceCreationDate TEXT, InstanceCreationDate_at INTEGER,
    InstanceCreationTime TEXT, InstanceCreationTime_at INTEGER,
    AcquisitionDate TEXT, AcquisitionDate_at INTEGER, ContentDate TEXT, ContentDate_at INTEGER,
    AcquisitionDateTime TEXT, AcquisitionDateTime_at INTEGER,
    AcquisitionTime TEXT, AcquisitionTime_at INTEGER, ContentTime TEXT, ContentTime_at INTEGER,
    AcquisitionNumber TEXT, InstanceNumber TEXT, ImageComments TEXT, NumberOfFrames TEXT,
    Rows TEXT, Columns TEXT, BitsAllocated TEXT, CompletionFlag TEXT, VerificationFlag TEXT, ContentLabel TEXT,
    object TEXT NOT NULL,  -- its key in the object store
    transfer_syntax TEXT NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL,  -- of the data set within the object, bytes
    digest BLOB NOT NULL,  -- SHA-256 of the data set
    received REAL NOT NULL,  -- seconds since 1970
    source TEXT NOT NULL  -- AE title
);
CREATE INDEX instance_by_series ON instance (series);

CREATE TABLE beside (  -- other data sets that came under the UID of an instance; kept, not served
    instance INTEGER NOT NULL REFERENCES instance,
    digest BLOB NOT NULL,
    object TEXT NOT NULL, transfer_syntax TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    received REAL NOT NULL, source TEXT NOT NULL,
    PRIMARY KEY (instance, digest)
) WITHOUT ROWID;

CREATE TABLE event (  -- what is still to be told
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,  -- JSON
    made REAL NOT NULL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX event_by_due ON event (due, id);
