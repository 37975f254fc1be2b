-- Names are folded otherwise (`dulcet.services.names`): read again from what the levels keep.

DELETE FROM person;

INSERT INTO person
SELECT named.owner, named.level, named.tag,
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]')
FROM (
    SELECT id AS owner, 0 AS level, 0x00100010 AS tag, PatientName AS names FROM patient
    UNION ALL SELECT id, 1, 0x00080090, ReferringPhysicianName FROM study
    UNION ALL SELECT id, 1, 0x00081060, NameOfPhysiciansReadingStudy FROM study
    UNION ALL SELECT id, 1, 0x00100010, PatientName FROM study
    UNION ALL SELECT id, 2, 0x00081050, PerformingPhysicianName FROM series
    UNION ALL SELECT id, 2, 0x00081070, OperatorsName FROM series
) AS named, json_each(folded(named.names));
