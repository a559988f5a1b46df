-- Construction machines that report without end: position, engine hours, fuel, faults; some devices are late.
-- Watch each machine's last ten seconds live:  cargo run --release -- run examples/telemetry/telemetry.sql
CREATE TABLE readings (
  machine INT,
  latitude DOUBLE,
  longitude DOUBLE,
  engine_hours DOUBLE,
  fuel_percent INT,
  fault_code INT,
  -- how long the device held the reading back, seconds: one in ten is far behind
  held_back INT,
  lag_class INT,
  measured AS TIMESTAMPADD(SECOND, CASE WHEN lag_class = 0 THEN -held_back ELSE 0 END, LOCALTIMESTAMP),
  WATERMARK FOR measured AS measured - INTERVAL '5' SECOND
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '2000',
  'fields.machine.min' = '1', 'fields.machine.max' = '20',
  'fields.latitude.min' = '47.0', 'fields.latitude.max' = '48.0',
  'fields.longitude.min' = '8.0', 'fields.longitude.max' = '9.5',
  'fields.engine_hours.min' = '100', 'fields.engine_hours.max' = '12000',
  'fields.fuel_percent.min' = '0', 'fields.fuel_percent.max' = '100',
  'fields.fault_code.min' = '0', 'fields.fault_code.max' = '200',
  'fields.held_back.min' = '0', 'fields.held_back.max' = '20',
  'fields.lag_class.min' = '0', 'fields.lag_class.max' = '9'
);

SELECT
  window_start,
  machine,
  COUNT(*) AS readings,
  ROUND(AVG(CAST(fuel_percent AS DOUBLE)), 1) AS fuel,
  MAX(engine_hours) AS engine_hours,
  COUNT(*) FILTER (WHERE fault_code BETWEEN 1 AND 5) AS faults
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(measured), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, machine;
