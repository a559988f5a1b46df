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

SELECT k, id, window_start, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY id DESC) AS rn FROM TABLE(TUMBLE(TABLE lev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE rn <= 1;
