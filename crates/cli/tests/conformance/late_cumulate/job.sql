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

SELECT window_start, window_end, COUNT(*) AS c FROM TABLE(CUMULATE(TABLE lev, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND)) GROUP BY window_start, window_end;
