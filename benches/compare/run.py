#!/usr/bin/env python3
"""Runs Nexmark queries on Flink and on Millstream, interleaved, over the same events and scripts, and prints a table.

Needs python3 with pip, Java 17 (javac), cargo. Flink comes from PyPI, the first time, into target/compare.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "compare"
VERSION = "2.3.0"
# Of these the rows depend on when they are read.
BY_THE_CLOCK = {"q12"}
# Queries whose changes come from Flink as upserts, and their key.
KEYS = {"q9": "id"}
QUERIES = "q0 q1 q2 q3 q4 q5 q7 q8 q11 q12 q14 q15 q16 q17 q20 q21 q22".split()
# What Flink's classes reach into.
OPENS = ["lang", "lang.reflect", "net", "nio", "time", "util", "util.concurrent", "util.concurrent.atomic"]


def flink_jars():
    """The jars of Flink's distribution, downloaded and unpacked if they aren't there yet."""
    home = WORK / f"flink-{VERSION}"
    if not (home / "done").exists():
        print("downloading Flink", VERSION, file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(home)]
        subprocess.run([*pip, f"apache-flink-libraries=={VERSION}"], check=True)
        (wheel,) = home.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(home)
        wheel.unlink()
        (home / "done").touch()
    return str(home / "pyflink" / "lib" / "*")


def compiled_runner(jars):
    """The folder with the runner's classes."""
    classes = WORK / "classes"
    source = HERE / "Runner.java"
    made = classes / "Runner.class"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["javac", "-nowarn", "-cp", jars, "-d", str(classes), str(source)], check=True)
    return str(classes)


def finished(process):
    """Waits for a process: CPU seconds, those of its children included, and the largest one's peak memory in MB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Flink:
    """A JVM for each run, with a cluster of one task manager within."""

    def __init__(self, options, connectors=()):
        self.jars = ":".join([flink_jars(), *connectors])
        self.classes = compiled_runner(self.jars)
        self.java = ["java", f"-Xmx{options.heap}", "-Duser.timezone=UTC"]
        self.java += [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENS]
        self.settings = [
            f"parallelism.default={options.parallelism}",
            "table.local-time-zone=UTC",
            "rest.port=0",
            f"execution.checkpointing.dir=file://{WORK}/checkpoints",
            *options.set,
        ]

    def run(self, script, rows, warm_up=None):
        """Runs a script, after another one to warm up. The clocks run from when the cluster is up: starting the JVM, and what
        comes before the script, cost Flink nothing."""
        class_path = f"{self.jars}:{self.classes}"
        command = [*self.java, "-cp", class_path, "Runner", *self.settings]
        with open(WORK / "flink.log", "w") as log:
            java = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        for order in filter(None, [warm_up, script]):
            java.stdin.write(f"{order}\t{rows}\n")
        java.stdin.close()
        answers = java.stdout.readlines()
        _, peak_mb = finished(java)
        if len(answers) < 1 + bool(warm_up):
            raise SystemExit(f"Flink ended before the query did: {WORK}/flink.log")
        outcome = json.loads(answers[-1])
        if "error" in outcome:
            raise SystemExit(f"Flink: {outcome['error']}")
        return dict(outcome, peak_mb=peak_mb)


class Millstream:
    """The program; the clocks run from before its start."""

    def __init__(self, options):
        self.programs = pathlib.Path(options.programs or TARGET / "release").resolve()
        if not options.programs:
            build = ["cargo", "build", "--release", "-p", "millstream", "-p", "millstream-bench"]
            subprocess.run(build, cwd=ROOT, check=True)
        self.parallelism = str(options.parallelism)

    def script(self, query, events):
        """The query over a folder of JSON files, which is made if it isn't there."""
        options = ["--events", str(events), "--source", "json", "--folder", str(WORK), "--script"]
        options += ["--program", self.programs / "millstream"]
        command = [self.programs / "millstream-bench", "nexmark", query, *options]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    def run(self, script, rows):
        state = ["--state-dir", str(WORK / "state"), "--from", "none"]
        command = [self.programs / "millstream", "run", script, "--parallelism", self.parallelism, *state]
        started, first = time.monotonic(), None
        with open(rows, "wb") as out, open(WORK / "millstream.log", "w") as log:
            program = subprocess.Popen([*command, "--format", "jsonl"], stdout=subprocess.PIPE, stderr=log)
            while chunk := program.stdout.read1(1 << 16):
                first = first or time.monotonic() - started
                out.write(chunk)
        cpu_s, peak_mb = finished(program)
        if program.returncode != 0:
            raise SystemExit(f"Millstream: exit code {program.returncode}, see {WORK}/millstream.log")
        return {"wall_s": time.monotonic() - started, "cpu_s": cpu_s, "first_row_s": first, "peak_mb": peak_mb}


def folded(path, key=None):
    """The multiset of rows that a changelog amounts to; with a key its latest row of each."""
    rows, latest = collections.Counter(), {}
    with open(path) as lines:
        for line in lines:
            change = json.loads(line)
            row = json.dumps(change["row"], sort_keys=True)
            rows[row] += 1 if change["op"] in ("+I", "+U") else -1
            if key and change["op"] in ("+I", "+U"):
                latest[change["row"][key]] = row
            elif key and latest.get(change["row"][key]) == row:
                del latest[change["row"][key]]
    return latest if key else {row: count for row, count in rows.items() if count}


def check(query, engines, script):
    """Whether both engines give the same rows, and when the first one came."""
    shown = re.sub(r"CREATE TABLE discard .*?;\nINSERT INTO discard\n", "", script, flags=re.S)
    shown = re.sub(r"SET 'execution.checkpointing.interval'.*?;\n", "", shown)
    (WORK / "check.sql").write_text(shown)
    firsts, results = {}, []
    for name, engine in engines.items():
        rows = WORK / f"{name}.jsonl"
        firsts[name] = engine.run(str(WORK / "check.sql"), str(rows))["first_row_s"]
        results.append(folded(rows, KEYS.get(query)))
    if query in BY_THE_CLOCK:
        return firsts, "-"
    return firsts, "yes" if results[0] == results[1] else "NO"


def engine_options(parser):
    """What both engines are told."""
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--heap", default="4g", help="the most that Flink's JVM takes for objects")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a setting of Flink, such as state.backend.type=rocksdb")
    parser.add_argument("--programs", help="a folder with millstream and millstream-bench, instead of building them")


def thousands(value):
    return f"{value / 1000:,.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queries", nargs="*", metavar="QUERY", default=QUERIES, help="which (default: all that both run)")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many (default: 1,000,000)")
    parser.add_argument("--check-events", type=int, default=100_000, help="over how many results are compared")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are shown")
    engine_options(parser)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    millstream = Millstream(options)
    engines = {"flink": Flink(options), "millstream": millstream}
    runs = collections.defaultdict(list)
    checks = {}
    for query in options.queries:
        checks[query] = check(query, engines, millstream.script(query, options.check_events))
    for number in range(options.rounds):
        for query in options.queries:
            (WORK / "query.sql").write_text(millstream.script(query, options.events))
            for name, engine in engines.items():
                run = engine.run(str(WORK / "query.sql"), os.devnull)
                runs[query, name].append(run)
                print(f"round {number + 1} {query} {name} {run['wall_s']:.1f} s, {run['cpu_s']:.1f} CPU s", file=sys.stderr)
    print("| query | 1000 events/s | Flink | ratio | 1000 events/CPU s | Flink | ratio | peak MB | Flink "
          "| first row s | Flink | same result |")
    print("|" + "---|" * 12)
    for query in options.queries:
        def median(name, what):
            return statistics.median(run[what] for run in runs[query, name])
        cells = [query]
        for what in ("wall_s", "cpu_s"):
            ours, theirs = (options.events / median(name, what) for name in ("millstream", "flink"))
            cells += [thousands(ours), thousands(theirs), f"{ours / theirs:.1f}"]
        cells += [f"{median(name, 'peak_mb'):,.0f}" for name in ("millstream", "flink")]
        firsts, same = checks[query]
        cells += ["-" if firsts[name] is None else f"{firsts[name]:.2f}" for name in ("millstream", "flink")]
        print("| " + " | ".join([*cells, same]) + " |")


if __name__ == "__main__":
    main()
