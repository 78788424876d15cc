"""Usual columns of medical tables: proposals of public ranges, for a person to confirm.

    known_column("Systolic BP")     # KnownColumn(minimum=40, maximum=300, unit="mmHg", …)

A range is where a value can lie at all: round numbers chosen for this table, wide enough for what a
living person has and a device reads; no source is quoted for them. ``typical`` is where most
patients lie. For blood it starts from the reference values of the MSD Manual (Blood Tests), widened
by hand to what is common among the sick; elsewhere it is by judgement. Neither comes from data of
a hospital, and each is to be confirmed by somebody who knows the measurement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """A usual column of numbers.

    Attributes:
        names: how it is called: lower case, nothing but letters and digits.
        minimum: least value that can be, in ``unit``.
        maximum: largest value that can be.
        unit: the unit that is proposed.
        typical: where most values lie; None where the range itself says it.
        source: where the range comes from.
    """

    names: tuple[str, ...]
    minimum: float
    maximum: float
    unit: str
    typical: tuple[float, float] | None = None
    source: str = "limits of plausibility; typical: MSD Manual, Blood Tests, widened by hand"


_VITAL: Final = "limits of plausibility; typical: by judgement"
_BODY: Final = "limits of plausibility; typical: most adults, by judgement"

KNOWN: Final = (
    KnownColumn(
        ("age", "ageyears", "ageatdiagnosis", "alter"),
        0,
        120,
        "a",
        source="longest human life, 122 years",
    ),
    KnownColumn(("bmi", "bodymassindex"), 8, 100, "kg/m²", (18, 40), _BODY),
    KnownColumn(("weight", "weightkg", "bodyweight", "gewicht"), 1, 400, "kg", (45, 130), _BODY),
    KnownColumn(
        ("height", "heightcm", "bodyheight", "groesse", "größe"), 30, 250, "cm", (145, 200), _BODY
    ),
    KnownColumn(
        ("sbp", "systolic", "systolicbp", "systolicbloodpressure", "apsys", "trestbps", "sysbp"),
        40,
        300,
        "mmHg",
        (90, 180),
        _VITAL,
    ),
    KnownColumn(
        ("dbp", "diastolic", "diastolicbp", "diastolicbloodpressure", "diabp", "bloodpressure"),
        10,
        200,
        "mmHg",
        (50, 110),
        _VITAL,
    ),
    KnownColumn(
        ("heartrate", "hr", "pulse", "puls", "thalach", "maxheartrate"),
        0,
        300,
        "1/min",
        (45, 180),
        _VITAL,
    ),
    KnownColumn(
        ("respiratoryrate", "resprate", "rr", "breathingrate"), 0, 100, "1/min", (8, 35), _VITAL
    ),
    KnownColumn(
        ("temperature", "temp", "bodytemperature", "temperatur"), 25, 45, "°C", (35, 41), _VITAL
    ),
    KnownColumn(("spo2", "oxygensaturation", "o2sat", "sao2"), 0, 100, "%", (85, 100), _VITAL),
    KnownColumn(
        ("cholesterol", "chol", "totalcholesterol", "totchol", "cholesterin"),
        20,
        1500,
        "mg/dL",
        (100, 350),
    ),
    KnownColumn(("hdl", "hdlcholesterol", "hdlc"), 1, 250, "mg/dL", (20, 100)),
    KnownColumn(("ldl", "ldlcholesterol", "ldlc"), 1, 1200, "mg/dL", (40, 250)),
    KnownColumn(
        ("triglycerides", "trigs", "triglyceride", "triglyzeride"), 5, 10_000, "mg/dL", (30, 500)
    ),
    KnownColumn(
        ("glucose", "bloodglucose", "fastingglucose", "bloodsugar", "bloodglucoselevel", "glukose"),
        10,
        2000,
        "mg/dL",
        (50, 400),
    ),
    KnownColumn(("hba1c", "a1c", "hba1clevel"), 2, 25, "%", (4, 14)),
    KnownColumn(
        ("creatinine", "serumcreatinine", "kreatinin", "crea"), 0.05, 40, "mg/dL", (0.3, 8)
    ),
    KnownColumn(("bun", "bloodureanitrogen"), 1, 300, "mg/dL", (5, 120)),
    KnownColumn(("urea", "bloodurea", "harnstoff"), 1, 650, "mg/dL", (10, 250)),
    KnownColumn(("uricacid", "harnsaeure", "harnsäure"), 0.1, 50, "mg/dL", (2, 12)),
    KnownColumn(("bilirubin", "totalbilirubin", "bili"), 0, 80, "mg/dL", (0, 10)),
    KnownColumn(("haemoglobin", "hemoglobin", "hb", "hgb", "hämoglobin"), 1, 30, "g/dL", (6, 19)),
    KnownColumn(("haematocrit", "hematocrit", "hct", "packedcellvolume"), 5, 80, "%", (20, 56)),
    KnownColumn(("whitebloodcells", "wbc", "leukocytes", "leukozyten"), 0, 500, "10⁹/L", (2, 30)),
    KnownColumn(("platelets", "plt", "plateletcount", "thrombozyten"), 0, 3000, "10⁹/L", (50, 600)),
    KnownColumn(("sodium", "na", "serumsodium", "natrium"), 90, 200, "mmol/L", (120, 155)),
    KnownColumn(("potassium", "k", "serumpotassium", "kalium"), 1, 12, "mmol/L", (2.5, 6.5)),
    KnownColumn(("calcium", "ca", "kalzium"), 2, 25, "mg/dL", (6, 13)),
    KnownColumn(("albumin", "serumalbumin"), 0.5, 8, "g/dL", (1.5, 5.5)),
    KnownColumn(("crp", "creactiveprotein"), 0, 1000, "mg/L", (0, 250)),
    KnownColumn(("lactate", "laktat"), 0, 50, "mmol/L", (0.3, 15)),
    KnownColumn(("ph", "arterialph", "bloodph"), 6, 8.5, "", (7, 7.7)),
    KnownColumn(("ejectionfraction", "lvef", "ef"), 1, 100, "%", (10, 80), _BODY),
)

SEX: Final = (("f", "m"), ("F", "M"), ("female", "male"), ("Female", "Male"), ("w", "m"))
"""How sex is written; the first that holds a table's names is proposed."""

PAIRS: Final = (
    ("0", "1"),
    ("no", "yes"),
    ("No", "Yes"),
    ("n", "y"),
    ("N", "Y"),
    ("false", "true"),
    ("False", "True"),
    ("FALSE", "TRUE"),
    ("negative", "positive"),
    ("benign", "malignant"),
    ("B", "M"),
    ("nein", "ja"),
)
"""How the answer no and the answer yes are written."""

_SEX_NAMES: Final = {"sex", "gender", "geschlecht"}
_AGE: Final = KNOWN[0].names
_PATIENTS: Final = {
    *("patient", "patientid", "patid", "patnr", "patientnumber", "pid", "subject", "subjectid"),
    *("mrn", "medicalrecordnumber", "hadmid", "person", "personid"),
}
_IDENTIFYING: Final = {
    *("id", "name", "firstname", "lastname", "surname", "birthdate", "dateofbirth", "dob"),
    *("address", "street", "zip", "zipcode", "postcode", "city", "phone", "telephone", "email"),
    *("ssn", "insurancenumber", "caseid", "encounterid", "index", "unnamed0", "row", "rowid"),
}
_LABELS: Final = {
    *("label", "target", "outcome", "diagnosis", "class", "y", "sick", "disease", "malignant"),
    *("death", "died", "mortality", "deathevent", "diabetes", "stroke", "heartdisease"),
}


def known_column(name: str) -> KnownColumn | None:
    """Returns the usual column of a name, whatever its case and punctuation."""
    bare = _bare(name)
    return next((known for known in KNOWN if bare in known.names), None)


def names_sex(name: str) -> bool:
    """Whether a column is of patients' sex, by its name."""
    return _bare(name) in _SEX_NAMES


def names_age(name: str) -> bool:
    """Whether a column is of patients' age in years, by its name."""
    return _bare(name) in _AGE


def names_patients(name: str) -> bool:
    """Whether a column says whose a row is, by its name."""
    return _bare(name) in _PATIENTS


def names_label(name: str) -> bool:
    """Whether a column is a diagnosis, by its name."""
    return _bare(name) in _LABELS


def identifies(name: str) -> bool:
    """Whether a column tells who somebody is and nothing to learn from, by its name."""
    return _bare(name) in _IDENTIFYING


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
