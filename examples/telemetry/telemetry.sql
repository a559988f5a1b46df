-- Construction machines that report without end: position, engine hours, fuel, faults.
--
-- One reading in ten comes late, by up to 20 seconds. Event time waits 5 seconds for such readings: those that
-- make it are counted in the window they belong to (`held_back`, with the longest delay), the others are dropped
-- and counted in the summary when the job stops (Ctrl-C).
--
--   cargo run --release -- run examples/telemetry/telemetry.sql
CREATE TABLE readings (
  machine INT,
  latitude DOUBLE,
  longitude DOUBLE,
  engine_hours DOUBLE,
  fuel_percent INT,
  fault_code INT,
  -- how long the device may have held the reading back, seconds, and whether it did (0)
  delay INT,
  held INT,
  measured AS TIMESTAMPADD(SECOND, CASE WHEN held = 0 THEN -delay ELSE 0 END, LOCALTIMESTAMP),
  WATERMARK FOR measured AS measured - INTERVAL '5' SECOND
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '2000',
  'fields.machine.min' = '1', 'fields.machine.max' = '10',
  'fields.latitude.min' = '47.0', 'fields.latitude.max' = '48.0',
  'fields.longitude.min' = '8.0', 'fields.longitude.max' = '9.5',
  'fields.engine_hours.min' = '100', 'fields.engine_hours.max' = '12000',
  'fields.fuel_percent.min' = '0', 'fields.fuel_percent.max' = '100',
  'fields.fault_code.min' = '0', 'fields.fault_code.max' = '200',
  'fields.delay.min' = '0', 'fields.delay.max' = '20',
  'fields.held.min' = '0', 'fields.held.max' = '9'
);

SELECT
  window_start,
  machine,
  COUNT(*) AS readings,
  COUNT(*) FILTER (WHERE held = 0 AND delay > 0) AS held_back,
  MAX(delay) FILTER (WHERE held = 0) AS longest_delay,
  ROUND(AVG(CAST(fuel_percent AS DOUBLE)), 1) AS fuel,
  ROUND(MAX(engine_hours), 1) AS engine_hours,
  COUNT(*) FILTER (WHERE fault_code BETWEEN 1 AND 5) AS faults
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(measured), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, machine;
