CREATE TABLE ev (
  id INT,
  k STRING,
  v INT,
  x DOUBLE,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/ev.json',
  'format' = 'json'
);

SELECT id, LAG(v) OVER (PARTITION BY k ORDER BY ts) AS l, LAG(v, 2, -1) OVER (PARTITION BY k ORDER BY ts) AS l2 FROM ev;
