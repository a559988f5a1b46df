-- Daily departure delays of each carrier at each of New York's airports, exactly once into JSON files.
SET 'pipeline.name' = 'flight-delays';

CREATE TABLE flights (
  `year` INT, `month` INT, `day` INT,
  dep_time INT, sched_dep_time INT, dep_delay INT,
  arr_time INT, sched_arr_time INT, arr_delay INT,
  carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
  air_time INT, distance INT, `hour` INT, `minute` INT, time_hour STRING,
  -- when it should have left, local time; a delay counts on the day of the schedule
  scheduled AS TO_TIMESTAMP(
    CAST(`year` AS STRING) || '-' || LPAD(CAST(`month` AS STRING), 2, '0') || '-' || LPAD(CAST(`day` AS STRING), 2, '0')
      || ' ' || LPAD(CAST(`hour` AS STRING), 2, '0') || ':' || LPAD(CAST(`minute` AS STRING), 2, '0') || ':00'),
  -- rows come in the order of actual departures, cancelled flights at the end of each day
  WATERMARK FOR scheduled AS scheduled - INTERVAL '1' DAY
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/flights/data',
  'source.path.regex-pattern' = '.*\.csv',
  'format' = 'csv',
  'csv.null-literal' = 'NA'
);

CREATE TABLE delays (
  `day` DATE,
  origin STRING,
  carrier STRING,
  departures BIGINT,
  cancelled BIGINT,
  mean_delay DOUBLE,
  max_delay INT,
  late_share DOUBLE
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/flights/out',
  'format' = 'json'
);

INSERT INTO delays
SELECT
  CAST(window_start AS DATE),
  origin,
  carrier,
  COUNT(*),
  COUNT(*) FILTER (WHERE dep_time IS NULL),
  ROUND(AVG(CAST(dep_delay AS DOUBLE)), 2),
  MAX(dep_delay),
  ROUND(CAST(COUNT(*) FILTER (WHERE dep_delay > 15) AS DOUBLE) / COUNT(*), 3)
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(scheduled), INTERVAL '1' DAY))
GROUP BY window_start, window_end, origin, carrier;
