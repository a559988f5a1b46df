-- Routes the events of one topic to other topics and to files by rules, each event exactly once.
-- 'cargo xtask example router' starts a server on a free port, writes events, and shows what comes out.

SET 'execution.checkpointing.interval' = '1 s';

CREATE TABLE events (
  id BIGINT,
  device STRING,
  kind STRING,
  severity INT,
  reading DOUBLE,
  happened TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka',
  'topic' = 'events',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

-- What somebody has to look at, kept in order for each device.
CREATE TABLE alarms (id BIGINT, device STRING, severity INT, reading DOUBLE) WITH (
  'connector' = 'kafka',
  'topic' = 'alarms',
  'properties.bootstrap.servers' = 'localhost:9092',
  'key.format' = 'raw',
  'key.fields' = 'device',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once'
);

-- Readings without the noise.
CREATE TABLE readings (id BIGINT, device STRING, reading DOUBLE) WITH (
  'connector' = 'kafka',
  'topic' = 'readings',
  'properties.bootstrap.servers' = 'localhost:9092',
  'key.format' = 'raw',
  'key.fields' = 'device',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once'
);

-- Everything, by kind.
CREATE TABLE archive (id BIGINT, device STRING, severity INT, reading DOUBLE, happened TIMESTAMP_LTZ(3), kind STRING)
PARTITIONED BY (kind) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/router/out',
  'format' = 'json'
);

EXECUTE STATEMENT SET BEGIN
  INSERT INTO alarms SELECT id, device, severity, reading FROM events WHERE kind = 'fault' AND severity >= 3;
  INSERT INTO readings SELECT id, device, reading FROM events WHERE kind = 'reading' AND reading BETWEEN -40 AND 120;
  INSERT INTO archive SELECT id, device, severity, reading, happened, kind FROM events;
END;
