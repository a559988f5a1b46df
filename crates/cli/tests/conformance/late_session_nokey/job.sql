CREATE TABLE lev (
  id INT,
  k STRING,
  v INT,
  x DOUBLE,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/lev.json',
  'format' = 'json'
);

SELECT window_start, COUNT(*) AS c FROM TABLE(SESSION(TABLE lev, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY window_start, window_end;
