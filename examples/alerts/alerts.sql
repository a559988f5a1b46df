-- Tells of users who fail to log in again and again: sessions of failures, one alert for each that is long enough.
-- 'cargo xtask example alerts' starts a server on a free port, writes logins, and shows the alerts.

SET 'execution.checkpointing.interval' = '1 s';

CREATE TABLE logins (
  login STRING,
  success BOOLEAN,
  address STRING,
  ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'logins',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '10 s',
  'key.format' = 'raw',
  'key.fields' = 'login',
  'value.format' = 'json',
  'value.fields-include' = 'EXCEPT_KEY'
);

CREATE TABLE alerts (
  login STRING,
  since TIMESTAMP_LTZ(3),
  failures BIGINT,
  addresses BIGINT,
  until TIMESTAMP_LTZ(3),
  PRIMARY KEY (login, since) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'alerts',
  'properties.bootstrap.servers' = 'localhost:9092',
  'key.format' = 'json',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once'
);

INSERT INTO alerts
SELECT login, window_start, COUNT(*), COUNT(DISTINCT address), window_end
FROM TABLE(SESSION(
  DATA => (SELECT * FROM logins WHERE NOT success) PARTITION BY login, TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '10' SECOND))
GROUP BY login, window_start, window_end
HAVING COUNT(*) >= 5;
