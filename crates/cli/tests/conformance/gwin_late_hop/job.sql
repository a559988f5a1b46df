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

SELECT k, HOP_START(ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) AS ws, COUNT(*) AS c FROM lev GROUP BY k, HOP(ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND);
