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

SELECT id, k FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts ASC) AS rn FROM lev) WHERE rn = 1;
