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

SELECT id, ts FROM lev ORDER BY ts;
