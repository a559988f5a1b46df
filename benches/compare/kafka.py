#!/usr/bin/env python3
"""Runs queries from Kafka to Kafka on Flink and on Millstream, interleaved, over one topic of one server, and prints a table.

Needs python3 with pip, Java 17 (javac), Maven, cargo. Kafka and Flink's connector come from Maven, Flink from PyPI, the first time.
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys

from run import ROOT, WORK, Flink, Millstream, engine_options, thousands

CONNECTOR = ("flink-sql-connector-kafka", "5.0.0-2.2")
QUERIES = ["filter", "copy", "window"]


def connector():
    """The jar of Flink's connector, fetched by Maven if it isn't there yet."""
    name, version = CONNECTOR
    jar = WORK / f"{name}-{version}.jar"
    if not jar.exists():
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
        artifact = f"-Dartifact=org.apache.flink:{name}:{version}"
        subprocess.run(["mvn", "--quiet", "--batch-mode", copy, artifact, f"-DoutputDirectory={WORK}"], check=True)
    return str(jar)


class Server:
    """A Kafka server with the writer and the reader, neither of which is part of what is measured."""

    def __init__(self, programs):
        command = [programs / "millstream-bench", "kafka", "serve"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.answer()["servers"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the Kafka server has ended")
        return json.loads(line)

    def order(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queries", nargs="*", metavar="QUERY", default=QUERIES, help=f"which: {', '.join(QUERIES)}")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many (default: 1,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument("--partitions", type=int, default=1, help="of each topic")
    parser.add_argument("--guarantee", default="exactly-once", choices=["exactly-once", "at-least-once"])
    parser.add_argument("--interval", default="1s", help="between checkpoints")
    parser.add_argument("--warm-up", action="store_true",
                        help="has Flink's JVM do each query once before the run that counts")
    engine_options(parser)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    millstream = Millstream(options)
    flink = Flink(options, [connector()])
    server = Server(millstream.programs)
    try:
        measure(options, server, {"flink": flink, "millstream": millstream}, millstream.programs)
    finally:
        server.close()


def measure(options, server, engines, programs):
    server.order("fill", "events", options.partitions, options.events)
    runs, results, plain = collections.defaultdict(list), collections.defaultdict(set), []
    topics = 0

    def script(query, name):
        """The query into a topic of its own: its file, and the topic."""
        nonlocal topics
        topics += 1
        topic = f"results-{topics}"
        server.order("create", topic, options.partitions)
        command = [programs / "millstream-bench", "kafka", "script", query, server.address, "events", topic]
        command += ["--guarantee", options.guarantee, "--interval", options.interval]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        file = WORK / f"kafka-{name}.sql"
        file.write_text(text)
        return str(file), topic

    for number in range(options.rounds):
        plain.append(server.order("consume", "events"))
        for query in options.queries:
            for name, engine in engines.items():
                warm_up = script(query, "warm-up") if options.warm_up and name == "flink" else None
                file, topic = script(query, name)
                run = engine.run(file, os.devnull, *(warm_up or [])[:1])
                runs[query, name].append(run)
                digest = server.order("digest", topic)
                results[query].add((digest["records"], digest["digest"]))
                for done in [topic, *(warm_up or [])[1:]]:
                    server.order("delete", done)
                print(f"round {number + 1} {query} {name} {run['wall_s']:.1f} s, {run['cpu_s']:.1f} CPU s, "
                      f"{digest['records']} results", file=sys.stderr)
    print("| query | 1000 events/s | Flink | ratio | 1000 events/CPU s | Flink | ratio | peak MB | Flink | results | same |")
    print("|" + "---|" * 11)
    for query in options.queries:
        def median(name, what):
            return statistics.median(run[what] for run in runs[query, name])
        cells = [query]
        for what in ("wall_s", "cpu_s"):
            ours, theirs = (options.events / median(name, what) for name in ("millstream", "flink"))
            cells += [thousands(ours), thousands(theirs), f"{ours / theirs:.1f}"]
        cells += [f"{median(name, 'peak_mb'):,.0f}" for name in ("millstream", "flink")]
        cells += [f"{max(results[query])[0]:,}", "yes" if len(results[query]) == 1 else "NO"]
        print("| " + " | ".join(cells) + " |")
    rates = [thousands(options.events / statistics.median(run[what] for run in plain)) for what in ("wall_s", "cpu_s")]
    print(f"\nA plain consumer of librdkafka: {rates[0]} thousand events/s, {rates[1]} thousand events/CPU s.")


if __name__ == "__main__":
    main()
